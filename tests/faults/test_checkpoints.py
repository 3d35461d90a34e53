"""Checkpoints whose writer is killed, or whose disk is full or has no power, at every change of the disk:
there is always a whole one, the newest is the old one or the new one, and what is left behind goes."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.faults.checkpoint_saver import COMMAND, KEEP_LAST, Saver, save
from tests.faults.power import Disk
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import Change, FullFrom, KillAt, Supervisor
from trainer.checkpoints.folder import CheckpointFolder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")

#: The steps of the checkpoints that are there, of which the first goes with the third.
BEFORE = (1, 2)
NEW = 3
#: In every run; the suite tries all.
SOME = 6
#: Of 8 bytes each: a checkpoint that takes a while.
LARGE = 3_000_000
#: Seconds that it takes at most, about.
LIFE_S = 0.12


class Bench:
    """Runs of one program that is watched, each with a folder of its own below the one that is watched."""

    def __init__(self, saver: Saver, disk: Supervisor, folder: Path) -> None:
        self.saver, self.disk = saver, disk
        self._folder = folder
        self._count = 0

    def prepared(self) -> CheckpointFolder:
        """With the checkpoints that were there before."""
        self._count += 1
        folder = CheckpointFolder(str(self._folder / str(self._count)))
        for step in BEFORE:
            save(folder, step, 100)
        return folder

    def undisturbed(self) -> tuple[int, int]:
        """How many changes a checkpoint makes to the disk, and how many of them may find it full."""
        folder = self.prepared()
        counting = FullFrom(1 << 60)
        self.saver.begin(Path(folder.path), NEW)
        self.disk.decide(counting)
        assert self.saver.go() == {"done": True, "killed": 0}
        count = len(self.disk.changes)
        self.disk.let()
        assert steps(folder) == [2, NEW]
        return count, counting.seen


@pytest.fixture(scope="module")
def bench(watched: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("checkpoints")
    with (
        Supervisor(folder, folder.parent / "checkpoints.door") as disk,
        Saver(disk.command(COMMAND)) as saver,
    ):
        yield Bench(saver, disk, folder)


def steps(folder: CheckpointFolder) -> list[int]:
    """Of the checkpoints that are there, every one of which is whole."""
    return [folder.open(name).manifest.position.step for name in folder.names()]


def unfinished(folder: CheckpointFolder) -> list[str]:
    return [name for name in os.listdir(folder.path) if name.startswith(".")]


def _check(folder: CheckpointFolder, trial: Trial) -> None:
    """The old ones, or the new one and those that are kept with it."""
    found = steps(folder)
    assert found in ([1, 2], [1, 2, NEW], [2, NEW]), found
    trial.count("new" if NEW in found else "old")
    newest = folder.newest()
    assert newest.damaged == ()
    assert newest.checkpoint is not None
    optimizer = newest.checkpoint.state("optimizer")
    assert optimizer["state"][0]["step"] == found[-1]


def _go_on(saver: Saver, folder: CheckpointFolder) -> None:
    """The next one is written, and clears what was left."""
    saver.begin(Path(folder.path), NEW + 1)
    assert saver.go() == {"done": True, "killed": 0}
    assert unfinished(folder) == []
    assert steps(folder)[-1] == NEW + 1
    assert len(steps(folder)) == KEEP_LAST


@numbers(few=1, many=0)
def test_a_writer_that_is_killed_at_some_changes_leaves_whole_checkpoints(
    number: int, bench: Bench, report: Report
) -> None:
    with report.trial("K1 some changes", number) as trial:
        count, _ = bench.undisturbed()
        for change in trial.chance.sample(range(1, count + 1), SOME):
            _kill_at(change, bench, trial)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_writer_that_is_killed_at_any_change_leaves_whole_checkpoints(bench: Bench, report: Report) -> None:
    with report.trial("K1 every change", 0) as trial:
        for change in range(1, bench.undisturbed()[0] + 1):
            _kill_at(change, bench, trial)
        assert trial.counts["old"] and trial.counts["new"] and trial.counts["left behind"]


def _kill_at(change: int, bench: Bench, trial: Trial) -> None:
    folder = bench.prepared()
    bench.saver.begin(Path(folder.path), NEW)
    killing = KillAt(change, lambda: os.kill(bench.saver.pid, signal.SIGKILL))
    bench.disk.decide(killing)
    answer = bench.saver.go()
    bench.disk.let()
    trial.note(change=change, at=str(killing.at))
    assert answer == {"killed": signal.SIGKILL}
    trial.count("kills")
    trial.count("left behind", len(unfinished(folder)))
    _check(folder, trial)
    _go_on(bench.saver, folder)


@numbers(few=1, many=0)
def test_a_disk_that_is_full_at_some_writes_is_told(number: int, bench: Bench, report: Report) -> None:
    with report.trial("K2 some writes", number) as trial:
        _, count = bench.undisturbed()
        for point in trial.chance.sample(range(1, count + 1), SOME):
            _fill(FullFrom(point, trial.chance.choice((None, 1))), bench, trial)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_disk_that_is_full_at_any_write_is_told(bench: Bench, report: Report) -> None:
    with report.trial("K2 every write", 0) as trial:
        for point in range(1, bench.undisturbed()[1] + 1):
            _fill(FullFrom(point), bench, trial)
            _fill(FullFrom(point, times=1), bench, trial)
        assert trial.counts["disk_full"] and trial.counts["old"] and trial.counts["new"]


def _fill(full: FullFrom, bench: Bench, trial: Trial) -> None:
    folder = bench.prepared()
    bench.saver.begin(Path(folder.path), NEW)
    bench.disk.decide(full, is_full=True)
    answer = bench.saver.go()
    bench.disk.let()
    trial.note(full=str(full), refused=[str(each) for each in full.refused], answer=answer)
    _check(folder, trial)
    if "done" in answer:
        trial.count("done all the same")
        assert steps(folder) == [2, NEW]
    else:
        trial.count(answer["error"])
        assert answer["error"] == "disk_full"
        assert str(answer["where"]).startswith(folder.path)
        assert ".part" not in answer["where"]
        # Of the new one nothing is left; of an old one that was going, what the next one clears.
        assert unfinished(folder) == [] or steps(folder) == [2, NEW]
    _go_on(bench.saver, folder)


@numbers(few=1, many=0)
def test_a_power_cut_at_some_changes_leaves_whole_checkpoints(
    number: int, bench: Bench, report: Report, tmp_path: Path
) -> None:
    with report.trial("K4 some changes", number) as trial:
        count, _ = bench.undisturbed()
        for change in trial.chance.sample(range(1, count + 1), SOME // 2):
            _cut(change, bench, trial, tmp_path / str(change))
        _cut(count + 1, bench, trial, tmp_path / "done")


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_power_cut_at_any_change_leaves_whole_checkpoints(
    bench: Bench, report: Report, tmp_path: Path
) -> None:
    with report.trial("K4 every change", 0) as trial:
        for change in range(1, bench.undisturbed()[0] + 2):
            _cut(change, bench, trial, tmp_path / str(change))
        assert trial.counts["old"] and trial.counts["new"]


def _cut(change: int, bench: Bench, trial: Trial, images: Path) -> None:
    """The power goes before this change; what may be found then is looked at three times."""
    folder = bench.prepared()
    bench.saver.begin(Path(folder.path), NEW)
    killing = KillAt(change, lambda: os.kill(bench.saver.pid, signal.SIGKILL))
    with closing(Disk(Path(folder.path))) as disk:

        def decide(each: Change) -> int | None:
            if killing.at is None:
                disk(each)
            return killing(each)

        bench.disk.decide(decide)
        answer = bench.saver.go()
        bench.disk.let()
        trial.note(change=change, at=str(killing.at))
        images.mkdir()
        for number in range(3):
            image = CheckpointFolder(str(images / str(number)))
            disk.image(Path(image.path), trial.chance)
            _check(image, trial)
            if "done" in answer:
                assert NEW in steps(image)
            _go_on(bench.saver, image)


@pytest.fixture(scope="module")
def saver() -> Iterator[Saver]:
    """Nobody watches it."""
    with Saver() as made:
        yield made


@numbers(few=2, many=60)
def test_a_writer_that_is_killed_at_any_moment_leaves_whole_checkpoints(
    number: int, saver: Saver, tmp_path: Path, report: Report
) -> None:
    with report.trial("K3 any moment", number) as trial:
        folder = CheckpointFolder(str(tmp_path / "checkpoints"))
        for step in BEFORE:
            save(folder, step, 100)
        saver.begin(Path(folder.path), NEW, LARGE)
        moment = trial.chance.uniform(0, LIFE_S)
        trial.note(moment=moment)
        timer = threading.Timer(moment, _kill, (saver.pid,))
        timer.start()
        trial.count(next(iter(saver.go())))
        timer.cancel()
        timer.join()
        _check(folder, trial)
        _go_on(saver, folder)
        # pytest keeps what tests leave.
        shutil.rmtree(folder.path)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
