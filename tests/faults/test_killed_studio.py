"""kill -9 of the studio while clients write: what was answered is there, and nothing happens twice."""

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import truth
from tests.faults.crowd import Crowd
from tests.faults.homes import Prepared
from tests.faults.repetition import numbers
from tests.faults.report import Report
from tests.faults.trial_studio import Trace, scripted, studio_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")


@numbers(few=3, many=100)
def test_what_was_answered_survives_the_kill_of_the_studio(
    number: int, few: Prepared, trace: Trace, report: Report, tmp_path: Path
) -> None:
    home = few.copy(tmp_path)
    kernel = scripted(trace)
    with report.trial("K3", number) as trial:
        with studio_of(home, trace, kernel=kernel) as studio:
            crowd = Crowd(studio, few.datasets, trial)
            seconds = trial.chance.uniform(0.02, 0.3)
            trial.note(seconds=seconds)
            crowd.write_until(studio, seconds, studio.kill)
        _assert_left_whole(home, tmp_path)
        with studio_of(home, trace, kernel=kernel) as studio:
            crowd.check(studio)
        trace.assert_nothing_left()
        truth.assert_whole(home, few.datasets.values())


def _assert_left_whole(home: Path, folder: Path) -> None:
    """The databases, as the dead studio left them, before anybody else has opened them."""
    for name in truth.DATABASES:
        copy = folder / f"left-{name}"
        shutil.copyfile(home / name, copy)
        if (log := home / f"{name}-wal").exists():
            shutil.copyfile(log, folder / f"left-{name}-wal")
        with closing(sqlite3.connect(copy)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
