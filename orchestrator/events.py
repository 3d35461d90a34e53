"""The one stream of events: numbered, kept, encoded once, and never slower for a reader who is.

An event is written to telemetry.db first and shown to readers then, so that no number is ever given twice:
`id` is the number of the boot times 2^32 plus a count. All readers share one ring of recent events and keep
only their place in it; who falls behind it is told to `reset`, which means: read the snapshots again.
"""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final, NamedTuple

import anyio
import msgspec

from contract.errors import LorakeetError
from orchestrator.clock import now_ms, rfc3339
from orchestrator.groups import task_group
from orchestrator.store.database import Database

#: Events that readers may be behind before they are told to reset.
RING: Final = 4_096
#: Bytes that go out to one reader at once.
CHUNK_BYTES: Final = 256 * 1024
#: Events read from the disk at once for a reader who comes back.
PAGE: Final = 500
HEARTBEAT_S: Final = 15.0
#: Seconds between two questions whether a reader may still read.
_ASK_S: Final = 5.0
#: Milliseconds after which a browser comes back by itself.
_RETRY_MS: Final = 1_000
#: Events published between two looks for some that are too old.
_PRUNE_EVERY: Final = 1_000
_BOOT: Final = 1 << 32
#: What every stream follows, and what says: read the snapshots again.
EVERYBODY: Final = ("studio",)
RESET: Final = "reset"
#: A browser's first connection has no id yet, and must be told at once that it is connected.
HELLO: Final = f"retry: {_RETRY_MS}\n\n".encode()
BEAT: Final = b": \n\n"

_encode = msgspec.json.Encoder().encode


class _Entry(NamedTuple):
    id: int
    topics: frozenset[str]
    wire: bytes


class _New(NamedTuple):
    at_ms: int
    topics: tuple[str, ...]
    name: str
    data: bytes
    kept: bool


class EventLog:
    """Made by `open_events`. Events go to whoever follows one of their topics."""

    def __init__(self, telemetry: Database, boot_number: int, kept: int) -> None:
        self._telemetry = telemetry
        self._first = boot_number * _BOOT
        self._kept = kept
        self._ring: list[_Entry | None] = [None] * RING
        self._published = 0
        self._count = 0
        self._oldest_kept = 0
        self._waiting: list[_New] = []
        self._wanted = anyio.Event()
        self._shown = anyio.Event()
        self._closed = False
        self.readers = 0
        self.resets = 0
        self.unkept = 0

    @property
    def last_id(self) -> int:
        """The number of the newest event that readers have been shown. Take it before reading a snapshot."""
        return self._first + self._count

    def publish(self, topics: tuple[str, ...], name: str, data: Any, *, kept: bool = True) -> None:
        """Tell everybody who follows one of `topics`; `kept` for those who come back later, too.

        Returns at once. `data` is encoded now, once for all.
        """
        self._published += 1
        self._waiting.append(_New(now_ms(), topics, name, _encode(data), kept))
        self._wanted.set()

    async def flush(self) -> None:
        """Wait until what was published so far can be read."""
        wanted = self._published
        while self._count < wanted:
            await self._shown.wait()

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._wake()

    async def follow(
        self,
        topics: Collection[str],
        after: int | None = None,
        is_welcome: Callable[[], bool] = lambda: True,
    ) -> AsyncGenerator[bytes]:
        """Events of `topics` as they travel, several at once where several are due, from `after` on.

        Yields a heartbeat where nothing happens. Ends when the log is closed, and some seconds after the
        reader is no longer welcome.
        """
        wanted = frozenset(topics)
        self.readers += 1
        place = self.last_id if after is None else after
        try:
            yield HELLO
            if not await self._is_known(place):
                yield self._reset()
                place = self.last_id
            asked_s = monotonic()
            while not self._closed:
                if monotonic() - asked_s > _ASK_S:
                    if not is_welcome():
                        return
                    asked_s = monotonic()
                shown = self._shown
                if (chunk := await self._next(place, wanted)) is None:
                    self.resets += 1
                    yield self._reset()
                    place = self.last_id
                    continue
                wire, place = chunk
                if wire:
                    yield wire
                elif place >= self.last_id and not self._closed:
                    with anyio.move_on_after(HEARTBEAT_S) as quiet:
                        await shown.wait()
                    if quiet.cancelled_caught:
                        yield BEAT
        finally:
            self.readers -= 1

    async def serve(self) -> None:
        """Keep and show what is published, until canceled."""
        since_prune = 0
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            due, self._waiting = self._waiting, []
            try:
                await self._keep(due)
            except LorakeetError:
                # A full disk: the living still see it, and who comes back later is told to reset.
                self.unkept += len(due)
            self._show(due)
            since_prune += len(due)
            if since_prune >= _PRUNE_EVERY:
                since_prune = 0
                await self._prune()

    async def start(self) -> None:
        """Learn what is kept from before."""
        self._oldest_kept = await self._telemetry.read(_oldest)

    async def _keep(self, due: list[_New]) -> None:
        first = self.last_id + 1
        rows = [
            (first + offset, each.at_ms, " ".join(each.topics), each.name, each.data)
            for offset, each in enumerate(due)
            if each.kept
        ]
        if rows:
            await self._telemetry.write(lambda db: db.executemany(_INSERT, rows) and None)

    def _show(self, due: list[_New]) -> None:
        for each in due:
            self._count += 1
            number = self.last_id
            entry = _Entry(number, frozenset(each.topics), _wire(number, each.name, each.at_ms, each.data))
            self._ring[self._count % RING] = entry
        self._wake()

    def _wake(self) -> None:
        self._shown.set()
        self._shown = anyio.Event()

    async def _is_known(self, after: int) -> bool:
        """Whether nothing is missing between `after` and what can still be told."""
        if after > self.last_id or after < 0:
            return False
        if after >= self._first:
            return after >= self._oldest_kept - 1 or after >= self.last_id - RING
        newest_before = await self._telemetry.read(lambda db: _newest_before(db, self._first))
        return self._oldest_kept - 1 <= after <= newest_before

    async def _next(self, place: int, wanted: frozenset[str]) -> tuple[bytes, int] | None:
        """What is due after `place`, and the place behind it. None where it can no longer be told."""
        last = self.last_id
        if place >= last:
            return b"", place
        if place >= max(self._first, last - RING):
            return self._from_ring(place - self._first, wanted)
        if place < self._oldest_kept - 1:
            return None
        return await self._from_disk(place, wanted)

    def _from_ring(self, count: int, wanted: frozenset[str]) -> tuple[bytes, int]:
        wires: list[bytes] = []
        size = 0
        while count < self._count and size < CHUNK_BYTES:
            count += 1
            entry = self._ring[count % RING]
            if entry is not None and not wanted.isdisjoint(entry.topics):
                wires.append(entry.wire)
                size += len(entry.wire)
        return b"".join(wires), self._first + count

    async def _from_disk(self, place: int, wanted: frozenset[str]) -> tuple[bytes, int]:
        last = self.last_id
        rows = await self._telemetry.read(lambda db: db.execute(_SELECT, (place, last, PAGE)).fetchall())
        wires = [
            _wire(id, name, at_ms, data)
            for id, at_ms, topics, name, data in rows
            if not wanted.isdisjoint(topics.split(" "))
        ]
        return b"".join(wires), rows[-1]["id"] if len(rows) == PAGE else last

    async def _prune(self) -> None:
        try:
            self._oldest_kept = await self._telemetry.write(lambda db: _prune(db, self._kept))
        except LorakeetError:
            return

    def _reset(self) -> bytes:
        return _wire(self.last_id, RESET, now_ms(), b"{}")


@asynccontextmanager
async def open_events(telemetry: Database, boot_number: int, kept: int) -> AsyncIterator[EventLog]:
    """The events of this boot, after those of the boots before; `kept` is how many are kept."""
    events = EventLog(telemetry, boot_number, kept)
    await events.start()
    async with task_group() as tasks:
        tasks.start_soon(events.serve)
        try:
            yield events
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await events.flush()
            events.close()
            tasks.cancel_scope.cancel()


def _wire(number: int, name: str, at_ms: int, data: bytes) -> bytes:
    """One event as it travels: its JSON has the time it happened, `at`, beside its data."""
    head = b'{"at":"%b"' % rfc3339(at_ms).encode()
    inner = data[1:-1]
    body = head + (b"," + inner if inner else b"") + b"}"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), body)


_INSERT: Final = "INSERT INTO events (id, at_ms, topics, name, data) VALUES (?, ?, ?, ?, ?)"
_SELECT: Final = (
    "SELECT id, at_ms, topics, name, data FROM events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
)


def _oldest(db: sqlite3.Connection) -> int:
    oldest: int = db.execute("SELECT coalesce(min(id), 0) FROM events").fetchone()[0]
    return oldest


def _newest_before(db: sqlite3.Connection, id: int) -> int:
    newest: int = db.execute("SELECT coalesce(max(id), 0) FROM events WHERE id < ?", (id,)).fetchone()[0]
    return newest


def _prune(db: sqlite3.Connection, kept: int) -> int:
    db.execute(
        "DELETE FROM events WHERE id < (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)", (kept - 1,)
    )
    return _oldest(db)


def topics_of(text: str) -> Iterator[str]:
    """The topics in a list with commas, such as `jobs,job:job_1`."""
    return (topic for each in text.split(",") if (topic := each.strip()))
