"""One start of a studio on a data directory. What was written under another boot is running no more."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec

from contract.errors import LorakeetError
from orchestrator.clock import now_ms
from orchestrator.ids import new_id
from orchestrator.store.database import Database


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """`number` counts the boots of this directory; `was_clean` says whether the one before ended in order."""

    boot_id: str
    number: int
    started_ms: int
    was_clean: bool


@asynccontextmanager
async def booted(control: Database) -> AsyncIterator[Boot]:
    """A new boot for as long as the block lasts. Raises DiskFull and StoreDamaged."""
    boot = await control.write(_begin)
    yield boot
    # A full disk must not turn a clean end into an error; the next boot looks at everything then.
    with anyio.CancelScope(shield=True), suppress(LorakeetError):
        await control.write(lambda db: _end(db, boot.number))


def _begin(db: sqlite3.Connection) -> Boot:
    before = db.execute("SELECT ended_ms FROM boots ORDER BY number DESC LIMIT 1").fetchone()
    boot_id, now = new_id("boot"), now_ms()
    number = db.execute("INSERT INTO boots (boot_id, started_ms) VALUES (?, ?)", (boot_id, now)).lastrowid
    assert number is not None
    was_clean = before is None or before["ended_ms"] is not None
    return Boot(boot_id=boot_id, number=number, started_ms=now, was_clean=was_clean)


def _end(db: sqlite3.Connection, number: int) -> None:
    db.execute("UPDATE boots SET ended_ms = ? WHERE number = ?", (now_ms(), number))
