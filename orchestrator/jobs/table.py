"""SQL over `jobs` and `transitions`, for use inside of a transaction.

Every change of a state goes through `move`, which looks at the state that is there and keeps the change. It
knows no events: what a transaction returns is published after its commit.
"""

import sqlite3
from typing import Any, Final, NamedTuple

import msgspec

from contract.errors import NotFound, StateConflict
from orchestrator.clock import now_ms
from orchestrator.jobs.job import JSON_COLUMNS, Job, job_of
from orchestrator.jobs.states import ALIVE, AUTOMATIC, NEXT_ATTEMPT, TERMINAL, Reason, State, is_legal


class Epoch(NamedTuple):
    """One start of one attempt: no two have the same."""

    boot_id: str
    number: int


class Overtaken(Exception):
    """Raised when an attempt writes that is no longer the one that counts."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a job's history. `error` is the WireError of an attempt that ended with one."""

    number: int
    at_ms: int
    before: State | None
    after: State
    reason: Reason
    attempt: int
    lane: str | None
    error: dict[str, Any] | None


def find(db: sqlite3.Connection, id: str) -> Job | None:
    """The job, if there is one."""
    row = db.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
    return None if row is None else job_of(row)


def get(db: sqlite3.Connection, id: str) -> Job:
    """The job. Raises NotFound."""
    if (job := find(db, id)) is None:
        raise NotFound(f"There is no job {id}.", where=id)
    return job


def current(db: sqlite3.Connection, id: str, epoch: Epoch) -> Job:
    """The job of the attempt that `epoch` names. Raises Overtaken where that is over."""
    job = find(db, id)
    if job is None or (job.boot_id, job.run_epoch) != epoch or job.state not in ALIVE:
        raise Overtaken(id)
    return job


def insert(db: sqlite3.Connection, job: Job, boot_id: str) -> Job:
    """Make a job, at the end of the queue."""
    values = _columns(msgspec.structs.asdict(job))
    values["position"] = _last_position(db) + 1
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", values)
    _write_down(db, job, None, boot_id, None)
    return get(db, job.id)


def move(db: sqlite3.Connection, job: Job, after: State, reason: Reason, writer: str, **columns: Any) -> Job:
    """`job`, as it stands in this transaction, in another state; `writer` is a boot. Raises StateConflict."""
    if not is_legal(job.state, after, reason):
        raise StateConflict(f"The job is {job.state}; that cannot become {after}.", where=job.id)
    now = now_ms()
    values = _columns(columns) | {
        "state": after,
        "reason": reason,
        "attempt": job.attempt + (reason in NEXT_ATTEMPT),
        "changed_ms": now,
        "finished_ms": now if after in TERMINAL else None,
    }
    update(db, job.id, values)
    moved = get(db, job.id)
    _write_down(db, moved, job.state, writer, columns.get("error"))
    return moved


def assign(db: sqlite3.Connection, id: str, lane: str, boot_id: str) -> Job:
    """A waiting job, starting on a lane under an epoch of its own. Raises NotFound and StateConflict."""
    job = get(db, id)
    return move(
        db,
        job,
        "starting",
        "assigned",
        boot_id,
        lane=lane,
        boot_id=boot_id,
        run_epoch=job.run_epoch + 1,
        started_ms=now_ms(),
        progress=None,
        error=None,
        outcome=None,
    )


def update(db: sqlite3.Connection, id: str, values: dict[str, Any]) -> None:
    """Write columns, as they are kept."""
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    db.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", values | {"id": id})


def to_the_end(db: sqlite3.Connection, job: Job) -> Job:
    """`job` behind everything that waits, if it comes to wait."""
    update(db, job.id, {"position": _last_position(db) + 1})
    return get(db, job.id)


def transitions(db: sqlite3.Connection, id: str) -> list[Transition]:
    """The history of a job, from its beginning."""
    rows = db.execute(
        "SELECT number, at_ms, before, after, reason, attempt, lane, error FROM transitions"
        " WHERE job_id = ? ORDER BY number",
        (id,),
    )
    return [_transition(row) for row in rows]


def automatic_attempts(db: sqlite3.Connection, id: str) -> int:
    """How many attempts were made without being asked for, since somebody asked last."""
    count: int = db.execute(_AUTOMATIC, (id, id)).fetchone()[0]
    return count


_ASKED: Final = "'created', 'retry_requested', 'resume_requested'"
_AUTOMATIC: Final = (
    f"SELECT count(*) FROM transitions WHERE job_id = ? AND reason IN ({', '.join(map(repr, AUTOMATIC))})"
    f" AND number > (SELECT max(number) FROM transitions WHERE job_id = ? AND reason IN ({_ASKED}))"
)


def _write_down(db: sqlite3.Connection, job: Job, before: State | None, boot_id: str, error: Any) -> None:
    db.execute(
        "INSERT INTO transitions"
        " (job_id, number, at_ms, before, after, reason, attempt, lane, error, boot_id)"
        " SELECT ?1, coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ? FROM transitions WHERE job_id = ?1",
        (
            job.id,
            job.changed_ms,
            before,
            job.state,
            job.reason,
            job.attempt,
            job.lane,
            None if error is None else msgspec.json.encode(error),
            boot_id,
        ),
    )


def _last_position(db: sqlite3.Connection) -> float:
    last: float = db.execute("SELECT coalesce(max(position), 0) FROM jobs").fetchone()[0]
    return last


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: msgspec.json.encode(value) if name in JSON_COLUMNS and value is not None else value
        for name, value in values.items()
    }


def _transition(row: sqlite3.Row) -> Transition:
    error = None if row["error"] is None else msgspec.json.decode(row["error"])
    return msgspec.convert(dict(row) | {"error": error}, Transition)
