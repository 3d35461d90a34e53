"""A disk that is full at the first, second, … last write of a training: the job says so, whatever is there is
whole, and once there is space again it goes on as if nothing had happened."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import FullFrom, Supervisor
from tests.faults.surgeries import steps
from tests.faults.trainings import SHORT, Attempt, Place, Source, new_place, product, source, weights
from tests.kernel_process import COMMAND, KernelProcess
from trainer.checkpoints.folder import CheckpointFolder

#: What takes no space; of these FullFrom refuses none.
FREE: Final = ("name", "remove", "sync_all")
#: In every run; the suite tries all.
SOME: Final = 2
#: Of the suite, so that one failure does not hide the others.
PARTS: Final = 4


class Bench:
    """A kernel whose disk is watched, and what a training comes to there."""

    def __init__(self, kernel: KernelProcess, disk: Supervisor, source: Source, folder: Path) -> None:
        self.disk = disk
        self._kernel = kernel
        self._source = source
        self._folder = folder
        self._count = 0
        place = self.place()
        disk.let()
        self.begin(place, 1).succeed()
        self.expected = product(place)
        #: The numbers of the changes that take space, as FullFrom counts them; of several writes into one
        #: file the first and the last.
        self.points = steps([each for each in disk.changes if each.call.kind not in FREE])

    def place(self) -> Place:
        """A new one, with nothing there; the last one is gone."""
        shutil.rmtree(self._folder / str(self._count), ignore_errors=True)
        self._count += 1
        folder = self._folder / str(self._count)
        return new_place(folder)

    def begin(self, place: Place, number: int) -> Attempt:
        """An attempt of the job of that place."""
        job_id = f"job_{place.folder.name}"
        return Attempt(self._kernel, SHORT, self._source, place, number, job_id=job_id)


@pytest.fixture(scope="module")
def bench(watched: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = source(tmp_path_factory.mktemp("source"))
    folder = tmp_path_factory.mktemp("trainings")
    with Supervisor(folder, folder.parent / "training.door") as disk:
        with KernelProcess(command=disk.command(COMMAND)) as kernel:
            kernel.initialize(roots=[folder, made.pictures, *made.models.values()])
            yield Bench(kernel, disk, made, folder)
            kernel.kill()
            assert "Traceback" not in kernel.stderr


@numbers(few=1, many=0)
def test_a_disk_that_is_full_at_some_write_of_a_training_is_told(
    number: int, bench: Bench, report: Report
) -> None:
    with report.trial("T6 some writes", number) as trial:
        for point in trial.chance.sample(bench.points, SOME):
            _fill(bench, FullFrom(point, trial.chance.choice((None, 1))), trial)


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_disk_that_is_full_at_any_write_of_a_training_is_told(
    part: int, bench: Bench, report: Report
) -> None:
    with report.trial("T6 every write", part) as trial:
        for point in bench.points[part::PARTS]:
            _fill(bench, FullFrom(point, trial.chance.choice((None, 1))), trial)
        assert trial.counts["disk_full"]


def _fill(bench: Bench, full: FullFrom, trial: Trial) -> None:
    place = bench.place()
    bench.disk.decide(full, is_full=True)
    answer = bench.begin(place, 1).answer()
    bench.disk.let()
    trial.note(full=str(full), refused=[str(each) for each in full.refused])
    _check_whole(place)
    if "result" in answer:
        # What is only a memory for the next run, or a name that did not come to the disk in time.
        trial.count("done all the same")
    else:
        data = answer["error"]["data"]
        trial.count(data["kind"])
        assert data["kind"] == "disk_full", answer
        assert Path(data["where"]).is_relative_to(place.folder)
        assert ".part" not in data["where"]
        bench.begin(place, 2).succeed()
    assert product(place) == bench.expected
    assert place.unfinished(caches=True) == []


def _check_whole(place: Place) -> None:
    """Whatever is there."""
    for path in place.outputs.glob("*"):
        assert dict(weights(path))
    folder = CheckpointFolder(str(place.run / "checkpoints"))
    for name in folder.names():
        folder.open(name)
    # An old checkpoint that was going, and whose going could not be brought to the disk, goes next time.
    assert [each for each in place.unfinished(caches=True) if not each.startswith(folder.path)] == []
