"""One writer, shared commits, readers beside it, and disks that are full."""

import errno
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from contract.errors import DiskFull, StateConflict, StoreDamaged
from orchestrator.store.database import MAX_SHARED, Database, Work, explained, open_database

pytestmark = pytest.mark.anyio

SCHEMA = ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;",)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "notes.db", SCHEMA, "FULL") as opened:
        yield opened


async def add(database: Database, text: str) -> None:
    await database.write(adding(text))


def adding(text: str) -> Work[sqlite3.Cursor]:
    return lambda db: db.execute("INSERT INTO notes (text) VALUES (?)", (text,))


async def texts(database: Database) -> list[str]:
    return await database.read(
        lambda db: [row[0] for row in db.execute("SELECT text FROM notes ORDER BY id")]
    )


async def test_what_was_written_can_be_read_at_once(database: Database) -> None:
    await add(database, "one")
    assert await texts(database) == ["one"]


async def test_a_commit_is_seen_by_another_program(database: Database) -> None:
    await add(database, "one")
    other = sqlite3.connect(database.path)
    assert other.execute("SELECT text FROM notes").fetchall() == [("one",)]
    other.close()


async def test_many_at_once_are_all_there(database: Database) -> None:
    wanted = [f"{number:04}" for number in range(MAX_SHARED * 2 + 10)]
    async with anyio.create_task_group() as tasks:
        for text in wanted:
            tasks.start_soon(add, database, text)
    assert sorted(await texts(database)) == wanted


async def test_one_that_fails_takes_no_other_with_it(database: Database) -> None:
    failed: list[str] = []

    async def try_to_add(text: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO notes (text) VALUES (?)", (f"{text} at first",))
            if text.endswith("7"):
                raise StateConflict("Not this one.")

        try:
            await database.write(write)
        except StateConflict:
            failed.append(text)

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(try_to_add, str(number))
    assert sorted(failed) == ["17", "27", "37", "7"]
    assert len(await texts(database)) == 36


async def test_a_constraint_is_the_callers_own_affair(database: Database) -> None:
    await add(database, "one")
    with pytest.raises(sqlite3.IntegrityError):
        await add(database, "one")
    await add(database, "two")
    assert await texts(database) == ["one", "two"]


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StoreDamaged):
        await database.read(lambda db: db.execute("DELETE FROM notes"))


async def test_readers_do_not_wait_for_a_long_write(database: Database) -> None:
    begun, end = anyio.Event(), anyio.Event()
    await add(database, "before")

    def write(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO notes (text) VALUES ('later')")
        anyio.from_thread.run_sync(begun.set, token=token)
        anyio.from_thread.run(end.wait, token=token)

    token = anyio.lowlevel.current_token()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, write)
        with anyio.fail_after(10):
            await begun.wait()
            assert await texts(database) == ["before"]
        end.set()
    assert await texts(database) == ["before", "later"]


async def test_what_was_submitted_before_the_end_is_committed(tmp_path: Path) -> None:
    async with open_database(tmp_path / "notes.db", SCHEMA, "NORMAL") as database:
        futures = [database.submit(adding(str(number))) for number in range(50)]
    assert all(future.done() for future in futures)
    async with open_database(tmp_path / "notes.db", SCHEMA, "NORMAL") as database:
        assert len(await texts(database)) == 50


async def test_a_full_disk_is_said_and_everything_goes_on_afterwards(database: Database) -> None:
    await add(database, "one")
    pages = await database.write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with pytest.raises(DiskFull):
        await add(database, "x" * 100_000)
    assert await texts(database) == ["one"]
    await database.write(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
    await add(database, "two")
    assert await texts(database) == ["one", "two"]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN])
async def test_a_quota_that_is_used_up_is_a_full_disk(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite tells of neither, and the disk has space."""

    def refuse(**arguments: object) -> None:
        raise OSError(errno.EDQUOT, "quota exceeded")

    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert isinstance(explained(error, tmp_path / "notes.db"), StoreDamaged)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert isinstance(explained(error, tmp_path / "notes.db"), DiskFull)


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"this is a shopping list" * 100)
    with pytest.raises(StoreDamaged, match=r"notes\.db"):
        async with open_database(path, SCHEMA, "FULL"):
            pass
    assert path.read_bytes().startswith(b"this is a shopping list")


KILLED = """
import os, signal, sys
from pathlib import Path
import anyio
import anyio.from_thread
import anyio.lowlevel
from orchestrator.store.database import open_database

async def main():
    schema = ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;",)
    async with open_database(Path(sys.argv[1]), schema, sys.argv[2]) as database:
        for number in range(100):
            await database.write(lambda db: db.execute("INSERT INTO notes (text) VALUES (?)", (str(number),)))
            print(number, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, synchronous: str) -> None:
    path = tmp_path / "notes.db"
    with anyio.fail_after(50):
        done = await anyio.run_process([sys.executable, "-c", KILLED, str(path), synchronous], check=False)
    assert done.returncode == -9, done.stderr
    acknowledged = done.stdout.decode().split()
    async with open_database(path, SCHEMA, "FULL") as database:
        assert await texts(database) == acknowledged
        assert await database.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
