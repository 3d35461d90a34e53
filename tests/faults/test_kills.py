"""kill -9 of the kernel at any moment of a job: the host hears of it, nothing is half done, it runs again."""

import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.builders.pictures import NASTY, ZOO, write
from tests.kernel_process import KernelEnded, KernelProcess

JOB_ID = "job_to_be_killed"


class Folder(NamedTuple):
    """Pictures, the captions they get when nothing happens, and how long that takes from the start."""

    path: Path
    params: dict[str, Any]
    captions: dict[str, str]
    took_s: float

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file below, with its size and time of change."""
        found = {}
        for path in self.path.rglob("*"):
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns if path.is_file() else 0)
        return found


def captions_of(kernel: KernelProcess) -> dict[str, str]:
    partials = [each["params"] for each in kernel.notifications if each["method"] == "partial"]
    return {item["image"]: item["caption"] for each in partials for item in each["items"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_tagger: Path) -> Folder:
    path = tmp_path_factory.mktemp("pictures")
    images = write(path, [picture for picture in (*ZOO, *NASTY) if picture.name.isascii()])
    params = {
        "job_id": JOB_ID,
        "v": 2,
        "inputs": {"images": [str(image) for image in images]},
        "settings": {"model": {"path": str(demo_tagger)}, "batch_size": 2},
    }
    started = time.monotonic()
    with KernelProcess(cwd=path) as kernel:
        kernel.initialize(roots=[path, demo_tagger])
        assert kernel.request("tag", params)["result"]["tagged"] == len(images)
        return Folder(path, params, captions_of(kernel), time.monotonic() - started)


def kill_at_a_random_moment(folder: Folder, demo_tagger: Path, chance: random.Random) -> dict[str, str]:
    """Run the job in a kernel that is killed on its way; the captions that came through."""
    moment = time.monotonic() + chance.uniform(0, folder.took_s)
    with KernelProcess(cwd=folder.path) as kernel:
        kernel.call(
            "initialize",
            {
                "contract": {"levels": [1]},
                "client": {"name": "t"},
                "roots": [str(folder.path), str(demo_tagger)],
            },
        )
        kernel.call("tag", folder.params)
        while (left := moment - time.monotonic()) > 0:
            with suppress(TimeoutError):
                kernel.receive(timeout=left)
        kernel.kill()
        # What was written before is still read, and then stdout ends: that is how a host knows.
        with pytest.raises(KernelEnded):
            while True:
                kernel.receive(timeout=5)
        assert kernel.poll() == -signal.SIGKILL
        assert len(kernel.stray) <= 1, "at most the line that it was writing"
        return captions_of(kernel)


def survives_a_kill(seed: int, folder: Folder, demo_tagger: Path) -> None:
    chance = random.Random(seed)
    before = folder.files()
    early = kill_at_a_random_moment(folder, demo_tagger, chance)
    assert folder.files() == before
    assert early.items() <= folder.captions.items()
    with KernelProcess(cwd=folder.path) as kernel:
        kernel.initialize(roots=[folder.path, demo_tagger])
        result = kernel.request("tag", folder.params | {"attempt": chance.choice((1, 2))})["result"]
        assert result["replayed"] is False
        assert captions_of(kernel) == folder.captions
    assert folder.files() == before


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_kernel_leaves_nothing_half_done_and_its_job_runs_again(
    seed: int, folder: Folder, demo_tagger: Path
) -> None:
    survives_a_kill(seed, folder, demo_tagger)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("seed", range(100, 160))
def test_sixty_killed_kernels_leave_nothing_half_done(seed: int, folder: Folder, demo_tagger: Path) -> None:
    survives_a_kill(seed, folder, demo_tagger)
