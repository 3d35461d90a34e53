"""Lines out of a stream of bytes: one message a line, `\\n` only, with a limit that both ends know.

A line beyond the limit costs no memory: it is skipped to its end and reported once.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final


class Skipped(Enum):
    """Stands for a line that was too long."""

    TOO_LONG = "too long"


TOO_LONG: Final = Skipped.TOO_LONG


class LineSplitter:
    """Feeds on chunks of any size; what is left of an unfinished line stays inside."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes | Skipped]:
        """Every line that `chunk` finishes, without its `\\n`."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:end])
            yield self._finish()
            start = end + 1
        self._keep(chunk[start:])

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self.max_bytes:
            self._skipping = True
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _finish(self) -> bytes | Skipped:
        line: bytes | Skipped = TOO_LONG if self._skipping else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._skipping = False
        return line
