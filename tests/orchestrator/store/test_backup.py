"""Copies of a database in use."""

import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest

from contract.errors import DiskFull, FileMissing, FileUnwritable, StoreDamaged
from orchestrator.store.backup import back_up
from orchestrator.store.control import open_control


def facts(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, value FROM facts").fetchall())


@pytest.mark.anyio
async def test_a_copy_has_every_write_that_was_acknowledged(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    async with open_control(tmp_path) as control:
        await control.write(lambda db: db.execute("INSERT INTO facts VALUES ('a', 1)") and None)
        size = await anyio.to_thread.run_sync(back_up, control.path, target)
        await control.write(lambda db: db.execute("INSERT INTO facts VALUES ('b', 2)") and None)
    assert target.stat().st_size == size
    assert facts(target) == {"a": 1}
    assert sorted(os.listdir(tmp_path)) == ["control.db", "copy.db"]


@pytest.mark.anyio
async def test_a_copy_is_a_data_directory_s_database_again(tmp_path: Path) -> None:
    async with open_control(tmp_path) as control:
        await control.write(lambda db: db.execute("INSERT INTO facts VALUES ('a', 1)") and None)
    (tmp_path / "other").mkdir()
    back_up(tmp_path / "control.db", tmp_path / "other" / "control.db")
    async with open_control(tmp_path / "other") as control:
        assert await control.read(lambda db: db.execute("SELECT value FROM facts").fetchone()[0]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_copy_is_for_its_owner_only(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "a.db").close()
    back_up(tmp_path / "a.db", tmp_path / "b.db")
    assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o600


def test_nothing_is_overwritten_and_nothing_is_copied_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no studio has run here"):
        back_up(tmp_path / "control.db", tmp_path / "b.db")
    sqlite3.connect(tmp_path / "control.db").close()
    (tmp_path / "b.db").write_bytes(b"mine")
    with pytest.raises(FileUnwritable, match="there already"):
        back_up(tmp_path / "control.db", tmp_path / "b.db")
    with pytest.raises(FileUnwritable):
        back_up(tmp_path / "control.db", tmp_path / "missing" / "b.db")
    assert (tmp_path / "b.db").read_bytes() == b"mine"


def test_a_damaged_database_leaves_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
        connection.commit()
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(StoreDamaged):
        back_up(path, tmp_path / "b.db")
    assert os.listdir(tmp_path) == ["control.db"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's limits of files")
def test_a_full_disk_leaves_no_copy(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "control.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 2000)
        connection.commit()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises((DiskFull, StoreDamaged)):
            back_up(path, tmp_path / "b.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["control.db"]
