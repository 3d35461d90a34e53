"""telemetry.db: events and metrics. It may lose the last moments of a power cut, never of a kill."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from orchestrator.store.database import Database, open_database

FILE: Final = "telemetry.db"

MIGRATIONS: Final = (
    """
    CREATE TABLE events (
      id INTEGER PRIMARY KEY,
      at_ms INTEGER NOT NULL,
      topics TEXT NOT NULL,
      name TEXT NOT NULL,
      data BLOB NOT NULL
    ) STRICT;

    CREATE TABLE metrics (
      job_id TEXT NOT NULL,
      key TEXT NOT NULL,
      step INTEGER NOT NULL,
      value REAL NOT NULL,
      at_ms INTEGER NOT NULL,
      PRIMARY KEY (job_id, key, step)
    ) STRICT, WITHOUT ROWID;
    """,
)


def open_telemetry(home: Path) -> AbstractAsyncContextManager[Database]:
    """The telemetry of a data directory. Raises StoreTooNew, StoreDamaged and DiskFull."""
    return open_database(home / FILE, MIGRATIONS, "NORMAL")
