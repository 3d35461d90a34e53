"""A copy of a database while it is in use: of one moment, and looked through before it has its name."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from contract.errors import FileMissing, FileUnwritable, StoreDamaged
from contract.rules.paths import to_wire
from orchestrator.files.durable import sync_folder, unwritten
from orchestrator.store.database import explained

_FINE: Final = "ok"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def back_up(source: Path, target: Path) -> int:
    """Copy the database `source` into the new file `target`; its bytes. May take a while.

    Raises FileMissing, FileUnwritable, StoreDamaged and DiskFull; then there is no `target`.
    """
    if not source.is_file():
        named = to_wire(str(source))
        raise FileMissing(f"There is no {named}: no studio has run here yet.", where=named)
    if target.exists():
        named = to_wire(str(target))
        raise FileUnwritable(f"{named} is there already.", where=named, hint="Name a new file.")
    draft = target.with_name(f".{target.name}.tmp")
    try:
        _make_private(draft)
        _copy(source, draft)
        _finish(draft, target)
    except OSError as error:
        raise unwritten(error, target) from error
    finally:
        with suppress(OSError):
            os.unlink(draft)
    return target.stat().st_size


def _make_private(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _copy(source: Path, target: Path) -> None:
    try:
        # In one step: a copy in several would begin anew whenever the studio writes.
        with closing(_opened(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        is_old = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
        raise explained(error, source if is_old else target) from error
    try:
        with closing(sqlite3.connect(target)) as copy:
            # One file is what is kept, so it must not need another one beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
            found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise explained(error, target) from error
    if found != _FINE:
        raise StoreDamaged(f"{source.name} is damaged: {found}.", where=to_wire(str(source)))


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _finish(draft: Path, target: Path) -> None:
    with open(draft, "rb+") as file:
        os.fsync(file.fileno())
    os.rename(draft, target)
    sync_folder(target.parent)
