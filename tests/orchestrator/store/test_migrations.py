"""Every earlier version becomes today's, whole or not at all, and keeps what it had."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from contract.errors import StoreTooNew
from orchestrator.store import control, telemetry
from orchestrator.store.migrations import migrate, statements, version_of

HISTORIES = {"control": control.MIGRATIONS, "telemetry": telemetry.MIGRATIONS}
EVERY_STEP = [(name, start) for name, history in HISTORIES.items() for start in range(len(history))]


def connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()


@pytest.mark.parametrize(("name", "start"), EVERY_STEP)
def test_every_earlier_version_becomes_todays(tmp_path: Path, name: str, start: int) -> None:
    history = HISTORIES[name]
    with closing(connected(tmp_path / "old.db")) as old, closing(connected(tmp_path / "new.db")) as new:
        migrate(old, tmp_path / "old.db", history[:start])
        migrate(old, tmp_path / "old.db", history)
        migrate(new, tmp_path / "new.db", history)
        assert version_of(old) == len(history)
        assert schema(old) == schema(new)


STEPS = ("CREATE TABLE a (x);", "ALTER TABLE a ADD COLUMN y;\nUPDATE a SET y = x;")


def test_what_was_there_is_kept_and_copied_first(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(connected(path)) as db:
        migrate(db, path, STEPS[:1])
        db.execute("INSERT INTO a VALUES (7)")
        migrate(db, path, STEPS)
        assert db.execute("SELECT x, y FROM a").fetchall() == [(7, 7)]
    with closing(connected(tmp_path / "a.db.version-1")) as copy:
        assert copy.execute("SELECT * FROM a").fetchall() == [(7,)]


def test_a_step_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(connected(path)) as db:
        migrate(db, path, STEPS[:1])
        before = schema(db)
        with pytest.raises(sqlite3.Error):
            migrate(db, path, (STEPS[0], "CREATE TABLE b (x);\nCREATE TABLE a (x);"))
        assert (schema(db), version_of(db), db.in_transaction) == (before, 1, False)


def test_a_newer_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(connected(path)) as db:
        db.execute("PRAGMA user_version = 9")
        with pytest.raises(StoreTooNew):
            migrate(db, path, STEPS)
        assert schema(db) == []


SCRIPT = """
-- a; comment
CREATE TABLE a (x TEXT DEFAULT ';');
CREATE TRIGGER t AFTER INSERT ON a BEGIN
  DELETE FROM a;
END;
"""


def test_a_script_is_cut_at_its_statements() -> None:
    assert len(list(statements(SCRIPT))) == 2
