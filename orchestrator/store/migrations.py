"""Bringing a database to today's schema: a script for each version, applied whole or not at all."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from contract.errors import StoreTooNew
from contract.rules.paths import to_wire


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Apply what is missing; `migrations[n]` leads from version n to n + 1, counted by `user_version`.

    What there was is copied beside it first. Raises StoreTooNew and sqlite3.Error.
    """
    version = version_of(connection)
    if version > len(migrations):
        raise StoreTooNew(
            f"{path.name} was written by a newer version of Lorakeet.",
            where=to_wire(str(path)),
            hint="Update Lorakeet, or choose another data directory with --data.",
        )
    if 0 < version < len(migrations):
        _copy(connection, path.with_name(f"{path.name}.version-{version}"))
    for number, script in enumerate(migrations[version:], version + 1):
        _apply(connection, script, number)


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations a database has had."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def statements(script: str) -> Iterator[str]:
    """The statements of a script. `executescript` would commit before the first of them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _apply(connection: sqlite3.Connection, script: str, number: int) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        # Another process may have done it while this one waited.
        if version_of(connection) < number:
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
