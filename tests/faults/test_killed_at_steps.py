"""kill -9 of the studio at the first, second, … last change that an operation makes to the disk: the next one
finds it done or not done."""

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults import truth
from tests.faults.homes import Prepared
from tests.faults.operations import OPERATIONS, Operation
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import Change, KillAt, Supervisor
from tests.faults.trial_studio import Trace, studio_of
from tests.studio_process import COMMAND, StudioProcess, until


class Bench:
    """A data directory, and one studio after the other on it."""

    def __init__(self, home: Path, few: Prepared, disk: Supervisor, trace: Trace) -> None:
        self.home, self.few, self.disk, self.trace = home, few, disk, trace
        self._open = ExitStack()
        self._number = 0

    def start(self) -> None:
        """The next studio."""
        self._open.close()
        command = self.disk.command(COMMAND)
        self.studio: StudioProcess = self._open.enter_context(
            studio_of(self.home, self.trace, command=command)
        )
        self.client: httpx.Client = self._open.enter_context(self.studio.client())

    def stop(self) -> None:
        """The last one."""
        self.disk.let()
        self._open.close()
        truth.assert_whole(self.home, self.few.datasets.values())

    def ready(self, kind: type[Operation]) -> Operation:
        """An operation that can be done."""
        self._number += 1
        return kind(self.client, self.home, self.few.datasets, self._number)


@pytest.fixture
def bench(home: Path, few: Prepared, disk: Supervisor, trace: Trace) -> Bench:
    return Bench(home, few, disk, trace)


@numbers(few=1, many=0)
def test_whatever_was_killed_amidst_was_done_or_not(number: int, bench: Bench, report: Report) -> None:
    """One step of one operation; the suite tries all."""
    with report.trial("K6 some steps", number) as trial:
        bench.start()
        kind = trial.chance.choice(OPERATIONS)
        _kill_at(trial.chance.choice(_steps(bench, kind)), bench, kind, trial)
        bench.stop()


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.name)
def test_an_operation_that_was_killed_at_any_step_was_done_or_not(
    kind: type[Operation], bench: Bench, report: Report
) -> None:
    with report.trial("K6 every step", OPERATIONS.index(kind)) as trial:
        bench.start()
        for step in _steps(bench, kind):
            _kill_at(step, bench, kind, trial)
        bench.stop()


def _steps(bench: Bench, kind: type[Operation]) -> list[int]:
    """The numbers of its changes, from 1; of several writes into one file the first and the last."""
    operation = bench.ready(kind)
    bench.disk.let()
    assert operation.act().is_success
    changes = list(bench.disk.changes)
    return [index + 1 for index in range(len(changes)) if not _is_within(changes, index)]


def _is_within(changes: Sequence[Change], index: int) -> bool:
    """Whether the changes around it are just like it."""
    around = changes[max(0, index - 1) : index + 2]
    return len(around) == 3 and len(set(around)) == 1


def _kill_at(step: int, bench: Bench, kind: type[Operation], trial: Trial) -> None:
    """Kill the studio there, and look at what the next one says."""
    operation = bench.ready(kind)
    killing = KillAt(step, lambda: os.kill(bench.studio.pid, signal.SIGKILL))
    bench.disk.decide(killing)
    answer = _answer(operation)
    if killing.at is not None:
        bench.studio.wait()
    bench.disk.let()
    trial.note(
        operation=kind.name, step=step, at=str(killing.at), answer=None if answer is None else answer.text
    )
    trial.count("kills", int(killing.at is not None))
    bench.start()
    operation.revisit(bench.client)
    _check(operation, answer, trial)
    until(lambda: truth.unwritten(bench.home) == 0)


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
