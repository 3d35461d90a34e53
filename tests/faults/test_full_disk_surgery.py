"""A disk that is full at the first, second, … last write of a file of weights: the job says so, nothing of
the file is left, no input is lost, and once there is space again it is done."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.supervisor import FullFrom, Supervisor
from tests.faults.surgeries import QUICK, SURGERIES, Expected, Surgery, found, hashes, run, steps, unfinished
from tests.kernel_process import COMMAND, KernelProcess

#: What takes no space; of these FullFrom refuses none.
FREE = ("name", "remove", "sync_all")
#: What is left on the small disk: enough for the inputs, not for the output.
SIZE_MIB = 5


class Bench:
    """A kernel whose disk is watched, and the folder of its files."""

    def __init__(self, kernel: KernelProcess, disk: Supervisor, folder: Path, made: Path) -> None:
        self.kernel, self.disk, self.folder = kernel, disk, folder
        self._made = made
        self._jobs = 0

    def prepare(self, surgery: Surgery) -> dict[str, str]:
        """Its files, as they are made once, and their hashes."""
        source = self._made / surgery.name
        if not source.exists():
            source.mkdir(parents=True)
            surgery.make(source)
        for each in self.folder.iterdir():
            each.unlink()
        shutil.copytree(source, self.folder, dirs_exist_ok=True)
        return hashes(self.folder)

    def run(self, surgery: Surgery) -> dict[str, object]:
        """The answer."""
        self._jobs += 1
        return run(self.kernel, surgery, self.folder, f"job-{self._jobs}")

    def undisturbed(self, surgery: Surgery) -> tuple[Expected, list[int]]:
        """What it comes to, and the numbers of the changes that take space, as FullFrom counts them; of
        several writes into one file the first and the last."""
        before = self.prepare(surgery)
        self.disk.let()
        answer = self.run(surgery)
        assert "result" in answer, answer
        taking = [each for each in self.disk.changes if each.call.kind not in FREE]
        return Expected(before, hashes(self.folder)[surgery.output]), steps(taking)


@pytest.fixture
def bench(watched: None, tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "files"
    folder.mkdir()
    with Supervisor(folder, tmp_path / "door") as disk:
        with KernelProcess(command=disk.command(COMMAND)) as kernel:
            kernel.initialize(roots=[folder])
            yield Bench(kernel, disk, folder, tmp_path / "made")
            kernel.kill()
            assert "Traceback" not in kernel.stderr


@numbers(few=1, many=0)
def test_a_disk_that_is_full_at_some_write_is_told_and_leaves_nothing(
    number: int, bench: Bench, report: Report
) -> None:
    """One point of one method; the suite tries all."""
    with report.trial("W3 some points", number) as trial:
        surgery = trial.chance.choice(QUICK)
        expected, points = bench.undisturbed(surgery)
        point = trial.chance.choice(points)
        _try(surgery, bench, expected, FullFrom(point, trial.chance.choice((None, 1))), trial)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("surgery", SURGERIES, ids=lambda surgery: surgery.name)
def test_a_disk_that_is_full_at_any_write_is_told_and_leaves_nothing(
    surgery: Surgery, bench: Bench, report: Report
) -> None:
    with report.trial("W3 every point", SURGERIES.index(surgery)) as trial:
        expected, points = bench.undisturbed(surgery)
        for point in points:
            _try(surgery, bench, expected, FullFrom(point), trial)
            _try(surgery, bench, expected, FullFrom(point, times=1), trial)
        assert trial.counts["disk_full"]


def _try(surgery: Surgery, bench: Bench, expected: Expected, full: FullFrom, trial: Trial) -> None:
    bench.prepare(surgery)
    bench.disk.decide(full, is_full=True)
    answer = bench.run(surgery)
    bench.disk.let()
    trial.note(surgery=surgery.name, full=str(full), refused=[str(each) for each in full.refused])
    state = found(surgery, bench.folder, expected)
    assert unfinished(bench.folder) == []
    if "result" in answer:
        # The last thing is to bring the name to the disk: by then the file is whole and in its place.
        trial.count("done")
        assert state == "new"
        return
    error = answer["error"]
    assert isinstance(error, dict)
    trial.count(error["data"]["kind"])
    assert (error["data"]["kind"], error["data"]["where"]) == (
        "disk_full",
        str(bench.folder / surgery.output),
    )
    assert state == "old"
    assert "result" in bench.run(surgery)
    assert found(surgery, bench.folder, expected) == "new"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of some megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NO SMALL DISK IS TRIED HERE: mounting one is not allowed")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_real_small_disk_refuses_what_it_has_no_space_for_before_the_work_is_done(
    small_disk: Path, report: Report
) -> None:
    with report.trial("W4 small disk", 0) as trial, KernelProcess() as kernel:
        kernel.initialize(roots=[small_disk])
        for surgery in QUICK:
            for each in small_disk.iterdir():
                each.unlink()
            surgery.make(small_disk)
            before = hashes(small_disk)
            error = run(kernel, surgery, small_disk, surgery.name.replace(" ", "-"))["error"]
            assert error["data"]["kind"] == "disk_full"
            assert hashes(small_disk) == before
            assert sorted(os.listdir(small_disk)) == sorted(before)
            trial.count("disk_full")
        messages = [each["params"] for each in kernel.notifications if each["method"] == "progress"]
        assert not any(each["phase"] == "copy" for each in messages)
