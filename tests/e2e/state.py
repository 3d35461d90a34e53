"""All that a studio keeps, in a form that two moments can be compared by."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

#: What moves when something is only looked at: when a browser was seen, when the disk was tried by /readyz.
_MOVED_BY_READING: Final = {"sessions": ("seen_ms", "expires_ms")}
_TRIED: Final = "'ready_ms'"
#: SQLite's own bookkeeping, what is measured, and what is said of requests.
_NO_STATE: Final = (".db", ".db-wal", ".db-shm", ".log", ".lock")


def kept(home: Path) -> dict[str, str]:
    """Every row of control.db by table, and every file below `home` by its digest."""
    return {**_tables(home / "control.db"), **files(home)}


def files(folder: Path) -> dict[str, str]:
    """Every file, folder and link below `folder`."""
    return {
        str(path): _file_digest(path)
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(_NO_STATE)
    }


def _tables(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {f"table {name}": _rows_digest(database, name) for name in sorted(names)}


def _rows_digest(database: sqlite3.Connection, table: str) -> str:
    found = database.execute(f'SELECT * FROM "{table}"')
    left_out = _MOVED_BY_READING.get(table, ())
    places = [place for place, column in enumerate(found.description) if column[0] not in left_out]
    rows = sorted(repr([row[place] for place in places]) for row in found)
    rows = [row for row in rows if _TRIED not in row]
    return f"{len(rows)} rows, {hashlib.sha256(repr(rows).encode()).hexdigest()}"


def _file_digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
