"""One SQLite file: a single writer that commits what waits together, and readers that never wait for it.

A write is durable when `write` returns, as far as `synchronous` goes: FULL survives a power cut, NORMAL a
kill. Writes that come while a commit is on its way share the next one, so that many clients together are
faster than one commit each; each still has a savepoint of its own, and fails alone.
"""

import errno
import queue
import sqlite3
import threading
from asyncio import wrap_future
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import anyio
import anyio.to_thread

from contract.errors import DiskFull, LorakeetError, StoreDamaged
from contract.rules.paths import to_wire
from orchestrator.store.migrations import migrate

T = TypeVar("T")
#: What is done with a connection; runs in a thread of the database.
Work = Callable[[sqlite3.Connection], T]
Synchronous = Literal["FULL", "NORMAL"]

#: Writes that share a commit at most, so that the first does not wait for ever.
MAX_SHARED: Final = 256
READERS: Final = 4
#: Pages of 4 KiB between two checkpoints: the log stays near 16 MiB.
_CHECKPOINT_PAGES: Final = 4_000
_BUSY_S: Final = 10.0


class Database:
    """Made by `open_database`."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self.path = path
        self._synchronous = synchronous
        self._writes: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._reading = anyio.CapacityLimiter(READERS)
        self._writer = threading.Thread(target=self._serve, name=f"writer of {path.name}", daemon=True)
        # For its owner alone; the log beside it gets the same rights from SQLite.
        with suppress(OSError):
            path.touch(mode=0o600)
        self._connection = self._connect()

    async def write(self, work: Work[T]) -> T:
        """What `work` returns, once all it did is committed.

        Raises what `work` raised, after its changes were undone; DiskFull and StoreDamaged.
        """
        return await wrap_future(self.submit(work))

    def submit(self, work: Work[T]) -> Future[T]:
        """The same, for callers that do not run in the event loop."""
        future: Future[T] = Future()
        self._writes.put((work, future))
        return future

    async def read(self, work: Work[T]) -> T:
        """What `work` returns of what is committed. Raises what `work` raised, and StoreDamaged."""
        return await anyio.to_thread.run_sync(self._read, work, limiter=self._reading)

    def start(self, migrations: Sequence[str]) -> None:
        """Bring the file to today's schema, and begin. Raises StoreTooNew, StoreDamaged and DiskFull."""
        try:
            migrate(self._connection, self.path, migrations)
            for _ in range(READERS):
                self._readers.put(self._connect(read_only=True))
        except sqlite3.Error as error:
            self._connection.close()
            raise explained(error, self.path) from error
        self._writer.start()

    def stop(self) -> None:
        """Finish what was submitted, then close. Blocks."""
        self._writes.put(None)
        self._writer.join()
        while not self._readers.empty():
            self._readers.get().close()
        self._connection.close()

    def _read(self, work: Work[T]) -> T:
        connection = self._readers.get()
        try:
            return work(connection)
        except sqlite3.Error as error:
            raise explained(error, self.path) from error
        finally:
            self._readers.put(connection)

    def _serve(self) -> None:
        while (first := self._writes.get()) is not None:
            waiting = [first]
            # `None` asks to stop: what came before it is finished first.
            stopping = self._gather(waiting)
            self._commit([each for each in waiting if each[1].set_running_or_notify_cancel()])
            if stopping:
                return

    def _gather(self, waiting: list[tuple[Work[Any], Future[Any]]]) -> bool:
        while len(waiting) < MAX_SHARED:
            try:
                more = self._writes.get_nowait()
            except queue.Empty:
                return False
            if more is None:
                return True
            waiting.append(more)
        return False

    def _commit(self, shared: list[tuple[Work[Any], Future[Any]]]) -> None:
        settled: list[tuple[Future[Any], Any]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in shared:
                self._apply(work, future, settled)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            self._fail(shared, explained(error, self.path))
            return
        for future, result in settled:
            future.set_result(result)

    def _apply(self, work: Work[Any], future: Future[Any], settled: list[tuple[Future[Any], Any]]) -> None:
        """One write within the common transaction; its own error is its own."""
        self._connection.execute("SAVEPOINT one")
        try:
            result = work(self._connection)
        except BaseException as error:
            # A full disk may have undone the whole transaction; then nothing of it was promised to anybody.
            if not self._connection.in_transaction:
                raise _whole(error) from error
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            future.set_exception(
                explained(error, self.path) if isinstance(error, sqlite3.OperationalError) else error
            )
            return
        self._connection.execute("RELEASE one")
        settled.append((future, result))

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _fail(self, shared: list[tuple[Work[Any], Future[Any]]], error: LorakeetError) -> None:
        for _, future in shared:
            if not future.done():
                future.set_exception(error)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        # Each connection is used by one thread at a time, though not always by the same.
        try:
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA query_only = {int(read_only)}")
        except sqlite3.Error as error:
            raise explained(error, self.path) from error
        connection.row_factory = sqlite3.Row
        return connection


@asynccontextmanager
async def open_database(
    path: Path, migrations: Sequence[str], synchronous: Synchronous
) -> AsyncIterator[Database]:
    """The database at `path`, made where there is none. Raises StoreTooNew, StoreDamaged and DiskFull."""
    database = await anyio.to_thread.run_sync(Database, path, synchronous)
    await anyio.to_thread.run_sync(database.start, migrations)
    try:
        yield database
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(database.stop)


def explained(error: sqlite3.Error, path: Path) -> LorakeetError:
    """The error of ours that an error of SQLite means."""
    named = to_wire(str(path))
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code in _MAY_BE_FULL and _is_full(path.parent)):
        return DiskFull("The disk is full; nothing of this was saved.", where=named, hint=_FREE)
    return StoreDamaged(
        f"The database {path.name} cannot be used: {_WHY.get(code, 'an error of its disk')}.",
        where=named,
        hint="`lorakeet doctor` says more; `lorakeet backup` copies what can still be read.",
    )


_FREE: Final = "Free some of the disk; then everything goes on."
_WHY: Final = {
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is no database",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_LOCKED: "another program holds it",
}


#: What SQLite says where it finds no space late, in a file beside its own, or because of a quota.
_MAY_BE_FULL: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
#: With less than this, the next write fails.
_ROOM_BYTES: Final = 1024 * 1024


def _is_full(folder: Path) -> bool:
    """Whether nothing can be written there for want of space; a quota is only met by writing."""
    import shutil
    from tempfile import TemporaryFile

    try:
        if shutil.disk_usage(folder).free < _ROOM_BYTES:
            return True
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def _whole(error: BaseException) -> BaseException:
    return error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError("transaction lost")
