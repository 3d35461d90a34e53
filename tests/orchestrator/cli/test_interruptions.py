"""`lorakeet tag` and its kernel, killed in the middle: captions are whole, errors typed, a re-run goes on."""

import json
import os
import random
import select
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, lorakeet, with_startup_code
from tests.orchestrator.cli.conftest import CAPTIONS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

_COUNT = 200
#: From this one on the kernel decodes no picture, so that nobody is done when the signal comes.
_STUCK = 160
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
    kernel = shlex.join([sys.executable, "-P", str(Path(__file__).parent / "stuck_kernel.py"), str(_STUCK)])
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "LORAKEET_KERNEL": kernel},
    )
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
    _kill_kernel(many, demo_tagger, random.Random(seed).randint(1, _STUCK))


@linux
def test_a_killed_command_leaves_whole_captions_and_no_kernel(many: Path, demo_tagger: Path) -> None:
    with _tagging(many, demo_tagger) as running:
        running.until(tagged=30)
        kernel = running.kernel_pid()
        running.process.kill()
        running.process.wait(TIMEOUT_S)
        _wait_until_gone(kernel)
    _goes_on(many, demo_tagger, _assert_whole(many))


@linux
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
    """It is nobody's child any more by then, so that only its descriptor tells."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], TIMEOUT_S)[0], f"{pid} still runs"
    finally:
        os.close(process)


# Ctrl+C at any moment ---------------------------------------------------------------------------------------

#: Only in the command itself: its kernel starts with the same environment.
_SIGNAL_AT = """
    import os, sys

    def at(event, args):
        if (event if event != "import" else args[0]) == os.environ["AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

    if "orchestrator.cli" in sys.orig_argv:
        sys.addaudithook(at)
"""
_WHILE_LOADING = (
    "orchestrator.cli.streams",
    "orchestrator.cli.commands",
    "argparse",
    "anyio",
    "contract.errors",
    "msgspec",
    "orchestrator.cli.flags",
    "orchestrator.files.caption_files",
    "orchestrator.hosting.client",
)
_WHILE_RUNNING = ("os.scandir", "subprocess.Popen", "os.link")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _signaled(
    at: str, number: signal.Signals, photographs: Path, demo_tagger: Path, folder: Path
) -> "subprocess.CompletedProcess[bytes]":
    environment = with_startup_code(folder, _SIGNAL_AT) | {"AT": at, "SIGNAL": str(int(number))}
    return subprocess.run(
        [*LORAKEET, "tag", str(photographs), "--model", str(demo_tagger)],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("number", _SIGNALS)
@pytest.mark.parametrize("module", _WHILE_LOADING)
def test_a_signal_while_the_command_loads_ends_it_as_the_system_does(
    module: str, number: signal.Signals, photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    done = _signaled(module, number, photographs, demo_tagger, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")


@pytest.mark.parametrize("number", _SIGNALS)
@pytest.mark.parametrize("event", _WHILE_RUNNING)
def test_a_signal_while_the_command_runs_ends_it_in_good_order(
    event: str, number: signal.Signals, photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    done = _signaled(event, number, photographs, demo_tagger, tmp_path)
    assert done.returncode == 128 + number
    # Nothing at all where the event, and so the signal, came more than once: the second ends it at once.
    assert done.stderr in (b"", b"Interrupted. The same command goes on where it ended.\n")
    written = len(list(photographs.glob("*.txt")))
    assert (written > 0) == (event == "os.link")


#: A signal at the very end, and another where Python would tidy up by itself.
_SIGNAL_AT_THE_END = """
    import atexit, os, signal

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    def leave(code, leave=os._exit):
        interrupt()
        leave(code)

    atexit.register(interrupt)
    os._exit = leave
"""


@pytest.mark.parametrize(("arguments", "code"), [(("jobs", "list"), 0), (("--help",), -signal.SIGINT)])
def test_a_signal_after_the_command_has_ended_is_no_traceback(
    arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = lorakeet(*arguments, env=with_startup_code(tmp_path, _SIGNAL_AT_THE_END))
    assert (done.code, done.stderr) == (code, "")


_HANGS = """
    import anyio, time
    from orchestrator.cli.interruptions import Interruptions

    async def hang():
        Interruptions(anyio.CancelScope(), 0.1)
        print("ready", flush=True)
        time.sleep(50)

    anyio.run(hang)
"""


def test_a_command_with_little_patience_is_ended_when_it_does_not_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_HANGS)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 143
