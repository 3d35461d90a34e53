"""`lorakeet tag` and its kernel, killed in the middle: captions are whole, errors typed, a re-run goes on."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, lorakeet
from tests.orchestrator.cli.conftest import CAPTIONS

_COUNT = 150
_CAPTION = CAPTIONS["rocket.jpg"] + "\n"


@pytest.fixture
def many(photographs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(_COUNT):
        os.link(photographs / "rocket.jpg", folder / f"{index:03}.jpg")
    return folder


class _Running:
    """A tagging command under way, followed by its events."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def until(self, tagged: int) -> None:
        """Read until so many images are tagged."""
        while sum(event["event"] == "tagged" for event in self.events) < tagged:
            self._read()

    def end(self) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout]
        return self.process.wait(TIMEOUT_S)

    def kernel_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii")
        return int(children.split()[0])

    def _read(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"ended early: {self.events[-1:]}"
        self.events.append(json.loads(line))


@contextmanager
def _tagging(folder: Path, demo_tagger: Path) -> Iterator[_Running]:
    command = [*LORAKEET, "tag", str(folder), "--model", str(demo_tagger), "--batch-size", "2", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield _Running(process)
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        assert process.stdout is not None
        process.stdout.close()


def _assert_whole(folder: Path) -> int:
    """Every caption is complete; the number of captions."""
    captions = list(folder.glob("*.txt"))
    assert {path.read_text(encoding="utf-8") for path in captions} <= {_CAPTION}
    return len(captions)


def _goes_on(folder: Path, demo_tagger: Path, written: int) -> None:
    done = lorakeet("tag", folder, "--model", demo_tagger, "--json")
    assert done.code == 0, done.stdout
    assert (done.of("finished")[0]["written"], done.of("finished")[0]["skipped"]) == (
        _COUNT - written,
        written,
    )
    assert _assert_whole(folder) == _COUNT
    assert not [path.name for path in folder.iterdir() if path.suffix not in (".jpg", ".txt")]


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the kernel through /proc")


def _kill_kernel(folder: Path, demo_tagger: Path, after: int) -> None:
    with _tagging(folder, demo_tagger) as running:
        running.until(tagged=after)
        os.kill(running.kernel_pid(), signal.SIGKILL)
        assert running.end() == 5
    error = running.events[-1]["error"]
    assert error["data"]["kind"] == "kernel_died"
    assert error["data"]["details"]["signal"] == "SIGKILL"
    _goes_on(folder, demo_tagger, _assert_whole(folder))


@linux
@pytest.mark.parametrize("after", [1, 40, 100])
def test_a_killed_kernel_is_reported_and_a_second_run_goes_on(
    many: Path, demo_tagger: Path, after: int
) -> None:
    _kill_kernel(many, demo_tagger, after)


@linux
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("seed", range(30))
def test_kernels_killed_at_any_moment_leave_whole_captions(many: Path, demo_tagger: Path, seed: int) -> None:
    _kill_kernel(many, demo_tagger, random.Random(seed).randint(1, _COUNT - 30))


def test_a_killed_command_leaves_whole_captions_and_no_kernel(many: Path, demo_tagger: Path) -> None:
    with _tagging(many, demo_tagger) as running:
        running.until(tagged=30)
        kernel = running.kernel_pid()
        running.process.kill()
        running.process.wait(TIMEOUT_S)
        _wait_until_gone(kernel)
    _goes_on(many, demo_tagger, _assert_whole(many))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_keeps_what_it_has_and_says_so(
    many: Path, demo_tagger: Path, number: signal.Signals, code: int
) -> None:
    with _tagging(many, demo_tagger) as running:
        running.until(tagged=20)
        kernel = running.kernel_pid()
        running.process.send_signal(number)
        assert running.end() == code
        _wait_until_gone(kernel)
    (finished,) = [event for event in running.events if event["event"] == "finished"]
    assert finished["written"] == _assert_whole(many) >= 20
    _goes_on(many, demo_tagger, finished["written"])


def _wait_until_gone(pid: int) -> None:
    """Bounded by the time-out of the test."""
    while Path(f"/proc/{pid}").exists():
        os.sched_yield()
