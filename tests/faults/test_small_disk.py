"""A real file system of some megabytes, filled to the brim. Skipped loudly where mounting is not allowed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.faults import truth
from tests.faults.homes import Prepared
from tests.faults.operations import OPERATIONS, Operation
from tests.faults.repetition import numbers
from tests.faults.report import Report, Trial
from tests.faults.trial_studio import Trace, studio_of

SIZE_MIB = 24
#: Bytes that are left free, at most; what a handful of operations takes.
LEFT_BYTES = 256 * 1024
READS = ("/presets", "/datasets", "/jobs", "/queue", "/settings", "/system")


@pytest.fixture
def small_home(few: Prepared, tmp_path: Path) -> Iterator[Path]:
    """A data directory on a small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NO SMALL DISK IS TRIED HERE: mounting one is not allowed")
    try:
        yield few.copy(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(home: Path, left_bytes: int) -> Iterator[None]:
    """The disk has only so much space, until the block ends."""
    filler = home.parent / "filler"
    with open(filler, "wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(1024)):
                pass
        os.ftruncate(file.fileno(), max(0, file.tell() - left_bytes))
    try:
        yield
    finally:
        filler.unlink()


@numbers(few=1, many=30)
def test_a_small_disk_refuses_what_it_has_no_space_for(
    number: int, small_home: Path, few: Prepared, trace: Trace, report: Report
) -> None:
    with report.trial("S1 small disk", number) as trial:
        with studio_of(small_home, trace) as studio, studio.client() as client:
            for kind in trial.chance.sample(OPERATIONS, 6):
                operation = kind(client, small_home, few.datasets, number + 1)
                left = trial.chance.choice((0, 4096, trial.chance.randrange(LEFT_BYTES)))
                trial.note(operation=kind.name, left=left)
                _try(operation, client, left, trial)
        assert "Traceback" not in studio.stderr + (small_home / "studio.log").read_text("utf-8")
        truth.assert_whole(small_home, few.datasets.values())


def _try(operation: Operation, client: httpx.Client, left: int, trial: Trial) -> None:
    with filled(operation.home, left):
        answer = operation.act()
        found = operation.found()
        for path in READS:
            assert client.get(path).status_code == 200, path
    trial.note(answer=answer.text[:500])
    trial.count("507" if answer.status_code == 507 else "done")
    if answer.is_success:
        assert found == operation.found() == "new"
        return
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert found in ("old", "new")
    again = operation.act()
    assert again.is_success or found == "new", again.text
    assert operation.found() == "new"
