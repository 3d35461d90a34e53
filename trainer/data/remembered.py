"""What is known of picture files from former runs, so that ten thousand of them need not be hashed again.

A file is taken for the same if its path, size, time of change and number on the disk are; whoever decodes it
compares the hash anyway. Losing this memory costs time only, and of two runs that save at once, one is
forgotten.
"""

import os
import threading
from contextlib import suppress
from typing import Final

import msgspec

from contract.errors import LorakeetError
from contract.rules.buckets import Size
from contract.rules.paths import to_wire
from trainer.data.picture import MAX_PIXELS, Facts, look
from trainer.weights.replacing import replace

#: Entries beyond this are forgotten, oldest first.
_MOST: Final = 200_000

_Stamp = tuple[int, int, int]
_Row = tuple[str, int, int, int, int, int, str]


class Remembered:
    """The facts of files, kept in the file `path`. Threads may share it."""

    def __init__(self, path: str) -> None:
        """Read what is there; a file that is missing or not understood is as good as an empty one."""
        self._path = path
        self._known: dict[str, tuple[_Stamp, Facts]] = {}
        self._lock = threading.Lock()
        self._changed = False
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError), open(path, "rb") as file:
            for named, size, time, number, width, height, sha256 in _rows.decode(file.read()):
                self._known[named] = ((size, time, number), Facts(Size(width, height), sha256))

    def look(self, path: str, *, max_pixels: int = MAX_PIXELS) -> Facts:
        """The facts of a picture: remembered where the file did not change since, else read and remembered.

        Raises what `trainer.data.picture.look` raises.
        """
        named, before = to_wire(os.path.abspath(path)), _stamp(path)
        known = self._known.get(named)
        if known is not None and known[0] == before:
            return known[1]
        facts = look(path, max_pixels=max_pixels)
        # Where it was written to meanwhile, nobody knows which content was read.
        if before is not None and before == _stamp(path):
            with self._lock:
                self._known.pop(named, None)
                self._known[named] = (before, facts)
                self._changed = True
        return facts

    def save(self) -> None:
        """Bring it to the disk if there is anything new; a disk that takes no more does not matter."""
        if not self._changed:
            return
        rows: list[_Row] = [
            (named, *stamp, *facts.size, facts.sha256)
            for named, (stamp, facts) in list(self._known.items())[-_MOST:]
        ]
        with suppress(LorakeetError):
            replace(self._path, msgspec.json.encode(rows))
            self._changed = False


_rows: Final = msgspec.json.Decoder(list[_Row])


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
