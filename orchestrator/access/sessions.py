"""A session, which is a browser that logged in, and its row in control.db."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

#: A session ends when it was not seen for so long.
LASTS_MS: Final = 30 * 24 * 3_600_000
_MAX_AGENT: Final = 200


@dataclass(slots=True)
class Session:
    """Times are milliseconds since 1970 in UTC; `agent` is what the browser calls itself."""

    id: str
    digest: bytes = field(repr=False)
    created_ms: int
    seen_ms: int
    expires_ms: int
    agent: str

    def see(self, now_ms: int) -> None:
        """It is in use, and lasts from now on."""
        self.seen_ms, self.expires_ms = now_ms, now_ms + LASTS_MS


def new_session(session_id: str, digest: bytes, agent: str, now_ms: int) -> Session:
    """A session that begins now."""
    return Session(session_id, digest, now_ms, now_ms, now_ms + LASTS_MS, _shown(agent))


def load_sessions(connection: sqlite3.Connection, now_ms: int) -> list[Session]:
    """Every session that goes on; the others are forgotten."""
    connection.execute("DELETE FROM sessions WHERE expires_ms <= ?", (now_ms,))
    rows = connection.execute("SELECT id, hash, created_ms, seen_ms, expires_ms, agent FROM sessions")
    return [Session(*row) for row in rows]


def insert_session(connection: sqlite3.Connection, session: Session) -> None:
    """Keep a new session."""
    connection.execute(
        "INSERT INTO sessions (id, hash, created_ms, seen_ms, expires_ms, agent) VALUES (?, ?, ?, ?, ?, ?)",
        (
            session.id,
            session.digest,
            session.created_ms,
            session.seen_ms,
            session.expires_ms,
            session.agent,
        ),
    )


def update_sessions(connection: sqlite3.Connection, rows: Sequence[tuple[int, int, str]]) -> None:
    """Write when sessions were seen: `seen_ms`, `expires_ms` and id. One that has ended stays so."""
    connection.executemany("UPDATE sessions SET seen_ms = ?, expires_ms = ? WHERE id = ?", rows)


def delete_sessions(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Forget these sessions."""
    connection.executemany("DELETE FROM sessions WHERE id = ?", [(each,) for each in ids])


def delete_all(connection: sqlite3.Connection) -> None:
    """Forget every session."""
    connection.execute("DELETE FROM sessions")


def _shown(agent: str) -> str:
    return "".join(each if each.isprintable() else " " for each in agent[:_MAX_AGENT])
