"""kill -9 of a kernel that writes a file of weights: at every change that it makes to the disk, and at any
moment. The output is there wholly or not at all, no input is lost, and the next write clears what is left."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import KillAt, Supervisor
from tests.faults.surgeries import (
    ID,
    LONG,
    QUICK,
    SURGERIES,
    Expected,
    Surgery,
    begin,
    found,
    hashes,
    run,
    steps,
    unfinished,
)
from tests.kernel_process import COMMAND, KernelEnded, KernelProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")


class Undisturbed(NamedTuple):
    """What a method comes to, the numbers of the changes that it makes to the disk, and the seconds from its
    first word to its last."""

    expected: Expected
    steps: list[int]
    life_s: float


class Bench:
    """The files of every method as they were, and what they come to undisturbed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Undisturbed] = {}

    def files(self, surgery: Surgery, target: Path) -> Path:
        """A fresh copy of its files."""
        source = self._folder / surgery.name
        if not source.exists():
            source.mkdir()
            surgery.make(source)
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(source, target))

    def undisturbed(self, surgery: Surgery, tmp_path: Path) -> Undisturbed:
        """Tried once."""
        if surgery.name not in self._known:
            folder = self.files(surgery, tmp_path / "undisturbed")
            before = hashes(folder)
            with Supervisor(folder, tmp_path / "undisturbed.door") as disk:
                with KernelProcess(command=disk.command(COMMAND)) as kernel:
                    kernel.initialize(roots=[folder])
                    begin(kernel, surgery, folder, "a")
                    started = time.monotonic()
                    answer = kernel.answer(ID, timeout=50)
                    life_s = time.monotonic() - started
                    assert "result" in answer, answer
            after = hashes(folder)[surgery.output]
            assert after == answer["result"]["sha256"]
            self._known[surgery.name] = Undisturbed(Expected(before, after), steps(disk.changes), life_s)
        return self._known[surgery.name]


@pytest.fixture(scope="module")
def bench(watched: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("surgeries"))


@numbers(few=1, many=0)
def test_a_kernel_that_is_killed_at_some_step_leaves_no_half_file(
    number: int, bench: Bench, report: Report, tmp_path: Path
) -> None:
    """One step of one method; the suite tries all."""
    with report.trial("W1 some steps", number) as trial:
        surgery = trial.chance.choice(QUICK)
        steps = bench.undisturbed(surgery, tmp_path).steps
        _kill_at(trial.chance.choice(steps), surgery, bench, trial, tmp_path)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("surgery", SURGERIES, ids=lambda surgery: surgery.name)
def test_a_kernel_that_is_killed_at_any_step_leaves_no_half_file(
    surgery: Surgery, bench: Bench, report: Report, tmp_path: Path
) -> None:
    with report.trial("W1 every step", SURGERIES.index(surgery)) as trial:
        for step in bench.undisturbed(surgery, tmp_path).steps:
            _kill_at(step, surgery, bench, trial, tmp_path)
        assert trial.counts["old"] and trial.counts["new"]


def _kill_at(step: int, surgery: Surgery, bench: Bench, trial: Trial, tmp_path: Path) -> None:
    expected = bench.undisturbed(surgery, tmp_path).expected
    folder = bench.files(surgery, tmp_path / "files")
    with Supervisor(folder, tmp_path / f"{step}.door") as disk:
        with KernelProcess(command=disk.command(COMMAND)) as kernel:
            kernel.initialize(roots=[folder])
            killing = KillAt(step, lambda: os.kill(kernel.pid, signal.SIGKILL))
            disk.decide(killing)
            with pytest.raises(KernelEnded):
                run(kernel, surgery, folder, "a")
    trial.note(surgery=surgery.name, step=step, at=str(killing.at))
    trial.count("kills")
    trial.count(found(surgery, folder, expected))
    _go_on(surgery, folder, expected, trial)


def _go_on(surgery: Surgery, folder: Path, expected: Expected, trial: Trial) -> None:
    """What was not done is done by the next kernel; what was left behind goes with the next write."""
    assert len(unfinished(folder)) <= 1
    trial.count("left behind", len(unfinished(folder)))
    with KernelProcess() as kernel:
        kernel.initialize(roots=[folder])
        if found(surgery, folder, expected) == "old":
            answer = run(kernel, surgery, folder, "again")
            assert answer["result"]["sha256"] == expected.after
        else:
            next_one = folder / "next.safetensors"
            params = {"inputs": {"file": str(folder / surgery.output)}, "outputs": {"file": str(next_one)}}
            edit = {"job_id": "next", "v": 1, "settings": {"set": {"a": "b"}}, **params}
            assert "result" in kernel.request("metadata", edit)
            next_one.unlink()
    assert unfinished(folder) == []
    assert found(surgery, folder, expected) == "new"


@pytest.fixture
def hurried() -> Iterator[list[threading.Timer]]:
    """Timers, none of which outlives its test."""
    timers: list[threading.Timer] = []
    yield timers
    for timer in timers:
        timer.cancel()
        timer.join()


@numbers(few=1, many=60)
def test_a_kernel_that_is_killed_at_any_moment_leaves_no_half_file(
    number: int, bench: Bench, report: Report, tmp_path: Path, hurried: list[threading.Timer]
) -> None:
    with report.trial("W2 any moment", number) as trial:
        surgery = trial.chance.choice(LONG)
        expected, _, life_s = bench.undisturbed(surgery, tmp_path)
        folder = bench.files(surgery, tmp_path / "files")
        moment = trial.chance.uniform(0, life_s)
        trial.note(surgery=surgery.name, moment=moment)
        with KernelProcess() as kernel:
            kernel.initialize(roots=[folder])
            with suppress(KernelEnded):
                begin(kernel, surgery, folder, "a")
                hurried.append(threading.Timer(moment, os.kill, (kernel.pid, signal.SIGKILL)))
                hurried[0].start()
                kernel.answer(ID)
                trial.count("done before")
            hurried[0].join()
            kernel.wait()
        trial.count("kills")
        trial.count(found(surgery, folder, expected))
        _go_on(surgery, folder, expected, trial)
