"""What the kernel prints: to stderr, but never waiting for it.

A host that does not read stderr must not stop a thread of ours, least of all the loop. So everything that
Python prints goes through a bounded queue to a thread of its own; what does not fit is dropped and counted.
"""

import io
import os
import stat
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Any, Final

#: Bytes that may wait for a host that does not read stderr; a traceback has about four thousand.
MAX_WAITING: Final = 1024 * 1024
#: Seconds that leaving gives the last words.
LAST_WORDS_S: Final = 0.5


class Noise(io.RawIOBase):
    """A raw stream onto the descriptor `fd` whose writes return at once."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._dropped = 0
        threading.Thread(target=self._run, name="noise", daemon=True).start()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: Any) -> int:
        """Queue `data` in whole, or drop it in whole."""
        piece = bytes(data)
        with self._changed:
            if self._waiting + len(piece) > MAX_WAITING:
                self._dropped += len(piece)
            else:
                self._queue.append(piece)
                self._waiting += len(piece)
                self._changed.notify_all()
        return len(piece)

    def drain(self, timeout_s: float) -> None:
        """Wait until all is written, for at most `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                piece = self._queue.popleft()
                dropped, self._dropped = self._dropped, 0
            note = f"[{dropped} bytes were dropped: nobody read stderr]\n".encode() if dropped else b""
            # A host that has closed stderr does without.
            with suppress(OSError):
                self._write(piece + note)
            with self._changed:
                self._waiting -= len(piece)
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def stream(fd: int) -> io.TextIOWrapper:
    """What `sys.stderr` becomes: text onto a Noise, unbuffered in between."""
    return io.TextIOWrapper(
        # Typed for buffered streams; with write_through it only ever calls `write`.
        Noise(fd),  # type: ignore[type-var,arg-type,unused-ignore]
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def last_words() -> None:
    """Let what was printed reach stderr, for a moment."""
    raw = getattr(sys.stderr, "buffer", None)
    if isinstance(raw, Noise):
        raw.drain(LAST_WORDS_S)


def unblockable(fd: int) -> int:
    """A descriptor to the same file on which writing never waits, or else to the null device.

    Whether a descriptor waits is a property of the open file, which others share: so it is opened anew. Only
    Linux can; elsewhere what is not a plain file gets the null device.
    """
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
    if sys.platform == "linux":
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY)
    with suppress(OSError):
        return os.open(os.devnull, os.O_WRONLY)
    return fd
