"""Thumbnails by the content of the image: made once, found again whatever the file is called.

A cache: losing it costs time only. Nothing is synced, so a file that a power cut left damaged is noticed by
its header and its length, and made again.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from contract.errors import LorakeetError, NotFound, WireError, from_wire
from contract.rules.paths import to_wire
from orchestrator.workers.pool import WorkerPool
from orchestrator.workers.tasks import MAX_PIXELS, THUMBNAIL, UNFINISHED, ThumbnailArguments, ThumbnailSize
from orchestrator.workers.turns import Priority, Ticket

_SHA256: Final = re.compile("[0-9a-f]{64}")
_RIFF_BYTES: Final = 12


class _Flight:
    """A thumbnail that is being looked for or made; others wait for it to land."""

    def __init__(self, priority: Priority) -> None:
        self.ticket = Ticket(priority)
        self.landed = anyio.Event()
        self.is_there = False
        self.error: WireError | None = None


class Thumbnails:
    """The files below `cache_dir`, which belongs to them alone: `ab/abcdef….256.webp`."""

    def __init__(self, cache_dir: Path, pool: WorkerPool, *, max_pixels: int = MAX_PIXELS) -> None:
        self._cache_dir = cache_dir
        self._pool = pool
        self._max_pixels = max_pixels
        self._flights: dict[Path, _Flight] = {}

    def path_of(self, sha256: str, size: ThumbnailSize) -> Path:
        """Where the thumbnail is, or will be. Raises NotFound for what is no lower-case sha256."""
        if not _SHA256.fullmatch(sha256):
            raise NotFound("There is no such picture.")
        return self._cache_dir / sha256[:2] / f"{sha256}.{size}.webp"

    def has(self, sha256: str, size: ThumbnailSize) -> bool:
        """Whether it is there and whole, as far as its header and its length tell. Looks at the disk."""
        return _is_whole(self.path_of(sha256, size))

    async def get(
        self,
        sha256: str,
        size: ThumbnailSize,
        source: Path,
        root: Path,
        *,
        priority: Priority = "interactive",
    ) -> Path:
        """The thumbnail's file, made now if need be; `source`, below `root`, holds the image of that content.

        Raises what the task `thumbnail` raises, FileUnreadable where `source` has another content by now,
        WorkerDied, WorkerTimeout, and NotReady.
        """
        target = self.path_of(sha256, size)
        while (flight := self._flights.get(target)) is not None:
            if await self._is_there(flight, priority):
                return target
        arguments = ThumbnailArguments(
            path=to_wire(os.fspath(source)),
            root=to_wire(os.fspath(root)),
            target=to_wire(os.fspath(target)),
            size=size,
            sha256=sha256,
            max_pixels=self._max_pixels,
        )
        await self._fly(target, arguments, priority)
        return target

    async def _is_there(self, flight: _Flight, priority: Priority) -> bool:
        """Wait for another's flight. False where that one was canceled. Raises what that one raised."""
        if priority == "interactive":
            self._pool.hurry(flight.ticket)
        await flight.landed.wait()
        if flight.error is not None:
            raise from_wire(flight.error)
        return flight.is_there

    async def _fly(self, target: Path, arguments: ThumbnailArguments, priority: Priority) -> None:
        flight = self._flights[target] = _Flight(priority)
        try:
            if not await to_thread.run_sync(_is_whole, target):
                await self._make(target, arguments, flight.ticket)
            flight.is_there = True
        except LorakeetError as error:
            flight.error = error.to_wire()
            raise
        finally:
            del self._flights[target]
            flight.landed.set()

    async def _make(self, target: Path, arguments: ThumbnailArguments, ticket: Ticket) -> None:
        try:
            await self._pool.run(THUMBNAIL, arguments, priority=ticket)
        except BaseException:
            # A worker that was killed leaves what it had written.
            with suppress(OSError):
                os.unlink(f"{target}{UNFINISHED}")
            raise


def _is_whole(path: Path) -> bool:
    """Whether the file is as long as the head of its RIFF says."""
    try:
        with path.open("rb") as file:
            head = file.read(_RIFF_BYTES)
            length = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    is_webp = head.startswith(b"RIFF") and head.endswith(b"WEBP")
    return is_webp and int.from_bytes(head[4:8], "little") + 8 == length
