"""kill -9 of the studio at the first, second, … last change that an operation makes to the disk: the next one
finds it done or not done."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.faults import truth
from tests.faults.homes import Prepared
from tests.faults.operations import OPERATIONS, Operation
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import KillAt, Supervisor
from tests.faults.trial_studio import Trace, studio_of
from tests.studio_process import COMMAND, until

#: Steps that an operation has, about.
STEPS = 16


@numbers(few=1, many=0)
def test_whatever_was_killed_amidst_was_done_or_not(
    number: int, home: Path, plain: Prepared, disk: Supervisor, trace: Trace, report: Report
) -> None:
    """Some steps of some operations; the suite tries all."""
    with report.trial("K6 some steps", number) as trial:
        for kind in trial.chance.sample(OPERATIONS, 3):
            _killed_at(trial.chance.randint(1, STEPS), kind, home, plain, disk, trace, trial)
        _assert_whole(home, plain)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.name)
def test_an_operation_that_was_killed_at_any_step_was_done_or_not(
    kind: type[Operation], home: Path, plain: Prepared, disk: Supervisor, trace: Trace, report: Report
) -> None:
    with report.trial("K6 every step", OPERATIONS.index(kind)) as trial:
        step = 1
        while _killed_at(step, kind, home, plain, disk, trace, trial):
            step += 1
        _assert_whole(home, plain)


def _killed_at(
    step: int,
    kind: type[Operation],
    home: Path,
    plain: Prepared,
    disk: Supervisor,
    trace: Trace,
    trial: Trial,
) -> bool:
    """Kill the studio there, and look at what the next one says; False where there is no such step."""
    trial.note(operation=kind.name, step=step)
    with studio_of(home, trace, command=disk.command(COMMAND)) as studio, studio.client() as client:
        operation = kind(client, home, plain.datasets, step)
        killing = KillAt(step, lambda: os.kill(studio.pid, signal.SIGKILL))
        disk.decide(killing)
        answer = _answer(operation)
        if killing.at is not None:
            studio.wait()
        disk.let()
    trial.note(at=str(killing.at), answer=None if answer is None else answer.status_code)
    trial.count("steps", int(killing.at is not None))
    with studio_of(home, trace) as studio, studio.client() as client:
        operation.revisit(client)
        _check(operation, answer, trial)
        until(lambda: truth.unwritten(home) == 0)
    return killing.at is not None


def _check(operation: Operation, answer: httpx.Response | None, trial: Trial) -> None:
    found = operation.found()
    trial.count(found)
    assert found in ("old", "new")
    if answer is not None:
        assert answer.is_success, answer.text
        assert found == "new", "it was promised"
    again = operation.act()
    assert again.status_code < 500, again.text
    if found == "old":
        assert again.is_success, again.text
    assert operation.found() == "new"


def _answer(operation: Operation) -> httpx.Response | None:
    try:
        return operation.act()
    except httpx.TransportError:
        return None


def _assert_whole(home: Path, plain: Prepared) -> None:
    truth.assert_databases_whole(home)
    truth.assert_journal_whole(home)
    for dataset in plain.datasets.values():
        truth.assert_files_say_the_same(home, dataset)
