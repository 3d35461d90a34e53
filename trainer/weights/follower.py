"""Follows a file that is being written, on a thread: hashes it from the system's cache, and has the disk
begin with it."""

import hashlib
import os
from threading import Condition, Thread
from typing import Final

from trainer.weights.writeback import EVERY_BYTES, begin_writeback

#: Bytes that are read at once: fits into a core's cache, and is long enough to let go of Python's lock.
_CHUNK: Final = 1 << 20


class Follower:
    """SHA-256 of the bytes of a file from `start` on, as far as `advance` says that they are written."""

    def __init__(self, name: str, start: int) -> None:
        """Raises OSError."""
        self._file = open(name, "rb", buffering=0)
        self._file.seek(start)
        self._hashed = self._begun = start
        self._written = start
        self._ended = False
        self._error: OSError | None = None
        self._hash = hashlib.sha256()
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def advance(self, written: int) -> None:
        """The file is written up to the offset `written`."""
        with self._changed:
            self._written = written
            self._changed.notify()

    def finish(self) -> str:
        """The hash of all that is written, as lower-case hex. Raises OSError."""
        self._end()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    def stop(self) -> None:
        """Give up; safe to call at any time."""
        with self._changed:
            self._written = self._hashed
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        with self._file:
            while (count := self._waiting()) and self._error is None:
                try:
                    self._take(buffer[:count])
                except OSError as error:
                    self._error = error

    def _waiting(self) -> int:
        """How many bytes to hash next; 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > self._hashed or self._ended)
            return max(0, min(_CHUNK, self._written - self._hashed))

    def _take(self, buffer: memoryview) -> None:
        read = self._file.readinto(buffer)
        if not read:
            raise OSError(0, os.strerror(0))
        self._hash.update(buffer[:read])
        self._hashed += read
        if self._hashed - self._begun >= EVERY_BYTES:
            begin_writeback(self._file.fileno(), self._begun, self._hashed - self._begun)
            self._begun = self._hashed
