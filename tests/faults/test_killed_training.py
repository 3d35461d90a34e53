"""kill -9 of a kernel that trains, at any moment and at any change that it makes to the disk, and every other
way to stop it: gone on with, the training ends as if it had never been stopped, to the last byte."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.seeds import chance
from tests.faults.supervisor import KillAt, Supervisor, is_possible
from tests.faults.trainings import (
    TRAININGS,
    Attempt,
    Place,
    Source,
    Training,
    differences,
    new_place,
    product,
    source,
)
from tests.kernel_process import COMMAND, KernelEnded, KernelProcess

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there"),
    pytest.mark.timeout(300),
]

#: In every run.
FEW: Final = 3
#: Seconds that are waited for longer after the word of a step: for a step or two and what they write.
_AFTER_S: Final = 0.3
#: Seconds from the request to about the first step, in a kernel that has loaded nothing.
_START_S: Final = 6.0
#: In the recipes of LoRAs.
_CONTINUED: Final = '"continued":true'
_UNBROKEN: Final = '"continued":false'


class Undisturbed(NamedTuple):
    """What a training comes to, and the changes that it makes to the disk, 0 where nobody counts them."""

    product: dict[str, object]
    changes: int


class Bench:
    """A folder whose changes are watched where that is possible, and a kernel that nobody kills."""

    def __init__(self, folder: Path, source: Source, disk: Supervisor | None) -> None:
        self.disk = disk
        self._folder = folder
        self._source = source
        self._known: dict[str, Undisturbed] = {}
        self._places = 0
        self._kernel: KernelProcess | None = None

    @property
    def kernel(self) -> KernelProcess:
        """The one that nobody kills."""
        if self._kernel is None:
            self._kernel = self.started()
        return self._kernel

    def started(self) -> KernelProcess:
        """A new one."""
        kernel = KernelProcess(command=COMMAND if self.disk is None else self.disk.command(COMMAND))
        kernel.initialize(roots=[self._folder])
        return kernel

    def begin(
        self, kernel: KernelProcess, training: Training, place: Place, number: int, **inputs: str
    ) -> Attempt:
        """Begin an attempt of the job of that place."""
        job_id = f"job_{place.folder.name}"
        return Attempt(kernel, training, self._source, place, number, job_id=job_id, **inputs)

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A new one, with nothing there; gone afterwards."""
        self._places += 1
        folder = self._folder / f"place-{self._places}"
        try:
            yield new_place(folder)
        finally:
            shutil.rmtree(folder)

    def undisturbed(self, training: Training) -> Undisturbed:
        """Tried once."""
        if training.name not in self._known:
            with self.place() as place:
                if self.disk is not None:
                    self.disk.let()
                result = self.begin(self.kernel, training, place, 1).succeed()
                assert result["steps"] == training.steps
                assert place.unfinished() == []
                changes = 0 if self.disk is None else len(self.disk.changes)
                self._known[training.name] = Undisturbed(product(place), changes)
        return self._known[training.name]

    def close(self) -> None:
        """End the kernel."""
        if self._kernel is not None:
            self._kernel.kill()
            assert "Traceback" not in self._kernel.stderr


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("trainings")
    with ExitStack() as stack:
        disk = None
        if is_possible() is None:
            disk = stack.enter_context(Supervisor(folder, folder.parent / "trainings.door"))
        made = Bench(folder, source(folder / "source"), disk)
        stack.callback(made.close)
        yield made


def _training(trial: Trial, number: int) -> Training:
    """That of the trial: those of every run share one, so that it is seen undisturbed only once."""
    chosen = chance("training", 0) if number < FEW else trial.chance
    return chosen.choice(TRAININGS)


@numbers(few=FEW, many=20)
def test_a_training_that_is_killed_and_gone_on_with_ends_as_if_it_had_never_stopped(
    number: int, bench: Bench, report: Report
) -> None:
    with report.trial("T1 killed", number) as trial, bench.place() as place:
        training = _training(trial, number)
        trial.note(training=training.name)
        expected, changes = bench.undisturbed(training)
        kills = 1 if number < FEW else trial.chance.choice((1, 1, 2, 3))
        for attempt in range(1, kills + 1):
            # Every other one amidst of writing something, as far as that can be told.
            if changes and trial.chance.random() < 0.5:
                _kill_at_a_change(bench, training, place, attempt, changes, trial)
            else:
                _kill_at_a_moment(bench, training, place, attempt, trial)
        bench.begin(bench.kernel, training, place, kills + 1).succeed()
        assert product(place) == expected
        assert place.unfinished() == []


def _kill_at_a_change(
    bench: Bench, training: Training, place: Place, attempt: int, changes: int, trial: Trial
) -> None:
    """At one of all the changes of the disk that an undisturbed training makes."""
    assert bench.disk is not None
    kernel = bench.started()
    try:
        killing = KillAt(trial.chance.randint(1, changes), lambda: os.kill(kernel.pid, signal.SIGKILL))
        bench.disk.decide(killing)
        with suppress(KernelEnded):
            bench.begin(kernel, training, place, attempt).answer()
            # A later attempt makes fewer of them.
            trial.count("ended before")
        bench.disk.let()
    finally:
        kernel.kill()
    trial.note(**{f"attempt {attempt}": str(killing.at)})
    trial.count("kills at a change", killing.at is not None)


def _kill_at_a_moment(bench: Bench, training: Training, place: Place, attempt: int, trial: Trial) -> None:
    """Somewhere between the request and the last word."""
    kernel = bench.started()
    try:
        step = trial.chance.randint(-1, training.steps)
        moment = trial.chance.uniform(0, _START_S if step < 0 else _AFTER_S)
        trial.note(**{f"attempt {attempt}": f"{moment:.3f} s after step {step}"})
        begun = bench.begin(kernel, training, place, attempt)
        if step < 0 or begun.has_done(step):
            time.sleep(moment)
    finally:
        kernel.kill()
    trial.count("kills at a moment")
    trial.count("left behind", len(place.unfinished()))


@numbers(few=1, many=12)
def test_a_training_that_is_stopped_and_gone_on_with_ends_as_if_it_had_never_stopped(
    number: int, bench: Bench, report: Report
) -> None:
    """By a pause, which is a graceful cancel, or by one that waits for nothing; gone on with by the same
    kernel or by another."""
    with report.trial("T2 stopped", number) as trial, bench.place() as place:
        training = _training(trial, number)
        expected, _ = bench.undisturbed(training)
        attempt, stops = 1, 1 if number < 1 else trial.chance.choice((1, 2, 3))
        with bench.started() as other:
            for _ in range(stops):
                kernel = bench.kernel if number < 1 else trial.chance.choice((bench.kernel, other))
                mode = trial.chance.choice(("graceful", "graceful", "now"))
                step = trial.chance.randint(0, training.steps - 2)
                trial.note(**{f"attempt {attempt}": f"{mode} after step {step}"})
                begun = bench.begin(kernel, training, place, attempt)
                attempt += 1
                if not _is_stopped(begun, step, mode, place, trial):
                    break
            bench.begin(bench.kernel, training, place, attempt).succeed()
        assert product(place) == expected
        assert place.unfinished() == []


def _is_stopped(begun: Attempt, step: int, mode: str, place: Place, trial: Trial) -> bool:
    """Whether it was canceled after the step; else it had ended already."""
    if begun.has_done(step):
        begun.cancel(mode)
    answer = begun.answer()
    if "result" in answer:
        trial.count("ended before")
        return False
    data = answer["error"]["data"]
    assert data["kind"] == "canceled", answer
    trial.count(f"canceled {mode}")
    if mode == "graceful":
        partial = data["partial"]
        assert partial["steps"] >= step
        assert Path(partial["checkpoint"]) in place.checkpoints()
    return True


@numbers(few=0, many=4)
def test_orders_on_the_way_change_nothing_of_what_comes_after(
    number: int, bench: Bench, report: Report
) -> None:
    with report.trial("T3 ordered", number) as trial, bench.place() as place:
        training = _training(trial, number + FEW)
        expected, _ = bench.undisturbed(training)
        begun = bench.begin(bench.kernel, training, place, 1)
        for step in range(training.steps):
            action = trial.chance.choice(("save_now", "sample_now", None))
            trial.note(**{f"step {step}": action})
            if action is not None and begun.has_done(step):
                begun.order(action)
        begun.succeed()
        found = product(place)
        assert differences(found, expected) == {}
        assert found.keys() >= expected.keys()
        trial.count("more pieces", len(found) - len(expected))


@numbers(few=0, many=4)
def test_a_run_that_takes_up_another_ones_checkpoint_ends_as_that_one_would_have(
    number: int, bench: Bench, report: Report
) -> None:
    with report.trial("T4 taken up", number) as trial, bench.place() as place, bench.place() as other:
        training = _training(trial, number + FEW)
        expected, _ = bench.undisturbed(training)
        begun = bench.begin(bench.kernel, training, place, 1)
        if not _is_stopped(begun, trial.chance.randint(1, training.steps - 2), "graceful", place, trial):
            return
        taken = str(place.checkpoints()[-1])
        bench.begin(bench.kernel, training, other, 1, checkpoint=taken).succeed()
        found = {
            # That it took up another one is all it says of that.
            name: value.replace(_CONTINUED, _UNBROKEN) if isinstance(value, str) else value
            for name, value in product(other).items()
        }
        assert differences(found, expected) == {}
        # What was made before is the other one's.
        assert found.keys() >= {f"{other.file.name} bytes", f"step {training.steps}"}


@pytest.mark.parametrize("number", range(1))
def test_two_runs_of_one_recipe_are_the_same(number: int, bench: Bench, report: Report) -> None:
    """The second in a process of its own, and with what the first has left in the caches."""
    with report.trial("T5 repeated", number) as trial, bench.place() as place, bench.started() as other:
        training = _training(trial, number)
        expected, _ = bench.undisturbed(training)
        bench.begin(other, training, place, 1).succeed()
        assert product(place) == expected
        for folder in (place.run, place.outputs):
            shutil.rmtree(folder)
        place.outputs.mkdir()
        bench.begin(bench.kernel, training, place, 1).succeed()
        assert product(place) == expected
