"""A job's log: JSON lines in its run folder, whole on the disk, a few moments of it in memory."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from contract.notifications import LogLevel

FILE: Final = "log.jsonl"
#: Bytes that wait for the next turn to be written; what comes faster is written at once.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: Bytes read at once from the end of a log, and at most, for lines of a level that is rare.
_CHUNK: Final = 64 * 1024
_MAX_READ: Final = 32 * 1024 * 1024

_LEVELS: Final[dict[LogLevel, int]] = {"debug": 0, "info": 1, "warning": 2, "error": 3}
_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line for a person. `number` counts the lines of an attempt; `dropped` those lost just before it."""

    at: str
    level: LogLevel
    logger: str
    message: str
    attempt: int
    number: int
    dropped: int = 0


class LogFile:
    """The log of an attempt that runs. Lines that a full disk did not take are counted in the next one."""

    def __init__(self, folder: Path) -> None:
        self._path: Final = folder / FILE
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._taking: Final = threading.Lock()
        self._writing: Final = threading.Lock()
        self._lost = 0

    def add(self, line: Line) -> None:
        """Take a line; it is written by the next `flush`."""
        if self._lost:
            line = msgspec.structs.replace(line, dropped=line.dropped + self._lost)
            self._lost = 0
        encoded = _encode(line) + b"\n"
        with self._taking:
            self._waiting.append(encoded)
            self._waiting_bytes += len(encoded)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Blocks; safe in any thread."""
        # Two locks: lines are taken while others are written, and written in the order of the taking.
        with self._writing:
            with self._taking:
                waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if waiting and not _append(self._path, b"".join(waiting)):
                self._lost += len(waiting)


def _append(path: Path, data: bytes) -> bool:
    """Add whole lines; whether they are there."""
    try:
        with open(path, "a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            # Where a studio was killed, or a disk full, half a line may be the last.
            healed = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(healed + data)
    except OSError:
        return False
    return True


def tail(folder: Path, count: int, level: LogLevel) -> list[Line]:
    """The last `count` lines of at least that level, the oldest first; none where there is no log. Blocks."""
    found: list[Line] = []
    for raw in _backwards(folder / FILE):
        line = _line(raw)
        if line is not None and _LEVELS[line.level] >= _LEVELS[level]:
            found.append(line)
            if len(found) >= count:
                break
    return found[::-1]


def _line(raw: bytes) -> Line | None:
    """None for half a line: of a studio that was killed, or on a full disk."""
    try:
        return msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file from the last one on."""
    try:
        file = open(path, "rb")
    except OSError:
        return
    with file:
        place = end = file.seek(0, os.SEEK_END)
        rest = b""
        while place > max(0, end - _MAX_READ):
            size = min(_CHUNK, place)
            place -= size
            file.seek(place)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            yield from reversed(lines)
        if place == 0:
            yield rest
