"""A host that does not read stderr keeps nobody waiting, and nobody alive."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.noise import MAX_WAITING, Noise, stream, unblockable
from tests.kernel.test_backpressure import HELLO, line, messages, write_until_stuck
from tests.kernel.test_lifetime import with_startup_code
from tests.kernel_process import COMMAND

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fills pipes")

GRACE_S = 3.0
SHORT_GRACE = f"""
    import kernel.jobs, kernel.lifetime

    kernel.lifetime.Lifetime.__init__.__defaults__ = ({GRACE_S},)
"""
A_BUG = """
    def boom(*args):
        raise RuntimeError("provoked")

    kernel.jobs.Jobs.get = boom
"""
#: As the kernel leaves, a native call that holds the GIL and never ends.
HOLD_THE_GIL = """
    def hold(*args):
        import ctypes
        ctypes.PyDLL(None).sleep(3600)

    kernel.jobs.Jobs.cancel_all = hold
"""


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    write_until_stuck(writing, bytes(1 << 20), 0.1)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def deaf_host(folder: Path, code: str, stderr: int) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """A kernel whose stderr takes nothing any more, its grace a short one."""
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        env={**os.environ, **with_startup_code(folder, SHORT_GRACE + code)},
        start_new_session=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process, process.stdin.fileno(), process.stdout.fileno()
        finally:
            process.kill()


def test_a_bug_is_answered_and_the_kernel_leaves_though_nobody_reads_stderr(tmp_path: Path) -> None:
    with full_pipe() as (_, stderr), deaf_host(tmp_path, A_BUG, stderr) as (kernel, stdin, stdout):
        os.write(stdin, line(0, "initialize", HELLO))
        os.write(stdin, line(1, "job/get", {"job_id": "a"}) + line(2, "job/get", {"job_id": "a"}))
        answers = (message for message in messages(stdout) if message.get("id"))
        for _ in range(2):
            assert next(answers)["error"]["code"] == -32603
        assert kernel.stdin is not None
        kernel.stdin.close()
        assert kernel.wait(GRACE_S * 3) == 0


def test_the_last_resort_works_though_nobody_reads_stderr(tmp_path: Path) -> None:
    with full_pipe() as (_, stderr), deaf_host(tmp_path, HOLD_THE_GIL, stderr) as (kernel, stdin, stdout):
        os.write(stdin, line(0, "initialize", HELLO))
        assert "result" in next(messages(stdout))
        os.write(stdin, line(1, "job/get", {"job_id": "a"}))
        assert kernel.stdin is not None
        kernel.stdin.close()
        assert kernel.wait(GRACE_S * 5) == 1


def test_what_a_full_pipe_does_not_take_is_dropped_and_counted_and_the_rest_arrives() -> None:
    with full_pipe() as (reading, writing):
        text = stream(writing)
        for number in range(40):
            text.write(f"{number:02}" + "x" * (MAX_WAITING // 20) + "\n")
        assert isinstance(text.buffer, Noise)
        seen = b""
        while b"bytes were dropped" not in seen:
            seen += os.read(reading, 1 << 20)
        assert b"00xxx" in seen and b"39xxx" not in seen
        print("later", file=text)
        while b"later\n" not in seen:
            seen += os.read(reading, 1 << 20)
        text.buffer.drain(10)
        text.detach()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux opens a pipe anew")
def test_a_descriptor_that_cannot_block_leaves_the_shared_one_as_it_was() -> None:
    with full_pipe() as (_, writing):
        other = unblockable(writing)
        with pytest.raises(BlockingIOError):
            os.write(other, b"x")
        assert os.get_blocking(writing)
        os.close(other)


def test_a_plain_file_is_written_to_where_it_ends(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert unblockable(file.fileno()) == file.fileno()
