"""The power goes while clients write: of what was answered nothing is lost, whatever the disk had put off."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults import truth
from tests.faults.crowd import Crowd
from tests.faults.homes import Prepared
from tests.faults.power import Disk
from tests.faults.repetition import numbers
from tests.faults.report import Report
from tests.faults.supervisor import Supervisor
from tests.faults.trial_studio import Trace, scripted, studio_of
from tests.studio_process import COMMAND


@pytest.mark.usefixtures("watched")
@numbers(few=1, many=40)
def test_what_was_answered_survives_a_power_cut(
    number: int, few: Prepared, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home, kernel = few.copy(tmp_path), scripted(trace)
    with report.trial("S4", number) as trial, ExitStack() as stack:
        disk = stack.enter_context(closing(Disk(home)))
        supervisor = stack.enter_context(Supervisor(home, tmp_path / "door"))
        supervisor.decide(disk)
        with studio_of(home, trace, kernel=kernel, command=supervisor.command(COMMAND)) as studio:
            crowd = Crowd(studio, few.datasets, trial)
            seconds = trial.chance.uniform(0.02, 0.3)
            trial.note(seconds=seconds)
            crowd.write_until(studio, seconds, studio.kill)
        trace.assert_nothing_left()
        disk.image(tmp_path / "image", trial.chance)
        # Jobs know the place of their model.
        home.rename(tmp_path / "before")
        (tmp_path / "image").rename(home)
        with studio_of(home, trace, kernel=kernel) as studio:
            crowd.check(studio)
        truth.assert_whole(home, few.datasets.values())
