"""The rows of control.db about the token: ours by its digest, and whether one came from outside."""

import sqlite3
from typing import Final, NamedTuple

from orchestrator.ids import new_id

_OUTSIDE: Final = "outside_token"


class Token(NamedTuple):
    """`id` is no secret."""

    id: str
    digest: bytes


def kept_token(connection: sqlite3.Connection) -> Token | None:
    """Our token; None before the first start without one from outside."""
    row = connection.execute("SELECT id, hash FROM tokens").fetchone()
    return None if row is None else Token(*row)


def replace_token(connection: sqlite3.Connection, digest: bytes, now_ms: int) -> Token:
    """Make `digest` that of our only token."""
    token = Token(new_id("token"), digest)
    connection.execute("DELETE FROM tokens")
    connection.execute("INSERT INTO tokens (id, hash, created_ms) VALUES (?, ?, ?)", (*token, now_ms))
    return token


def outside_changed(connection: sqlite3.Connection, digest: bytes | None) -> bool:
    """Whether the last start had another token from outside, or had one and now there is none; noted."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (_OUTSIDE,)).fetchone()
    before = None if row is None else row[0]
    if before == digest:
        return False
    connection.execute("DELETE FROM facts WHERE name = ?", (_OUTSIDE,))
    if digest is not None:
        connection.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (_OUTSIDE, digest))
    return True
