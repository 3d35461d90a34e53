"""What may start, and what is left alone for a while."""

import sqlite3

import pytest

from orchestrator.jobs import waiting
from orchestrator.jobs.waiting import due
from orchestrator.store.control import MIGRATIONS
from tests.orchestrator.jobs.deeds import KINDS

_ROW = (
    "INSERT INTO jobs (id, kind, name, state, reason, settings, priority, position, attempt, created_ms,"
    " changed_ms) VALUES (?, ?, '', ?, ?, X'7B7D', ?, ?, ?, 0, ?)"
)
NOW_MS = 1_000_000


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    monkeypatch.setattr(waiting, "RETRY_S", 1.0)
    monkeypatch.setattr(waiting, "now_ms", lambda: NOW_MS)
    connection = sqlite3.connect(":memory:")
    connection.executescript(MIGRATIONS[0])
    connection.row_factory = sqlite3.Row
    return connection


def _put(db: sqlite3.Connection, id: str, kind: str = "run", **fields: int | str) -> None:
    row = {"state": "queued", "reason": "created", "priority": 0, "position": 1, "attempt": 1, "changed": 0}
    db.execute(_ROW, (id, kind, *(row | fields).values()))


def _ids(db: sqlite3.Connection, count: int = 9) -> list[str]:
    return [job.id for job in due(db, KINDS.values(), count).waiting]


def test_kinds_are_mixed_in_the_order_of_the_queue(db: sqlite3.Connection) -> None:
    _put(db, "a", position=3)
    _put(db, "b", "resize", position=2)
    _put(db, "c", position=4, priority=1)
    _put(db, "d", state="running")
    _put(db, "e", "unknown")
    assert _ids(db) == ["c", "b", "a"]


def test_no_more_of_a_kind_are_looked_at_than_can_start(db: sqlite3.Connection) -> None:
    for position in range(9):
        _put(db, f"run{position}", position=position)
        _put(db, f"resize{position}", "resize", position=position + 100)
    assert _ids(db, 2) == ["run0", "run1", "resize0", "resize1"]


@pytest.mark.parametrize(("attempt", "seconds"), [(2, 1), (3, 2), (4, 4), (9, 60), (99, 60)])
def test_what_failed_waits_longer_every_time(db: sqlite3.Connection, attempt: int, seconds: int) -> None:
    _put(db, "a", reason="retried", attempt=attempt, changed=NOW_MS - 400)
    found = due(db, KINDS.values(), 9)
    assert found.waiting == [] and found.later_s == pytest.approx(seconds - 0.4)
    db.execute("UPDATE jobs SET changed_ms = ?", (NOW_MS - seconds * 1000,))
    assert _ids(db) == ["a"]
    assert due(db, KINDS.values(), 9).later_s is None


def test_what_somebody_asked_for_does_not_wait(db: sqlite3.Connection) -> None:
    for reason in ("retry_requested", "requeued", "resume_requested", "kernel_unavailable"):
        _put(db, reason, reason=reason, attempt=3, changed=NOW_MS)
    assert len(_ids(db)) == 4


def test_a_clock_that_was_set_back_makes_nobody_wait(db: sqlite3.Connection) -> None:
    _put(db, "a", reason="retried", attempt=2, changed=NOW_MS + 3_600_000)
    assert _ids(db) == ["a"]
