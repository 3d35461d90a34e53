"""Which jobs a client asks for: filters, pages, and places in the queue."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from orchestrator.jobs.artifacts import KeptArtifact, of_job
from orchestrator.jobs.job import Job, job_of
from orchestrator.jobs.states import State
from orchestrator.jobs.table import Transition, get, transitions

Order = Literal["newest", "queue"]


class Filter(NamedTuple):
    """What is wanted; None wants all. `text` stands somewhere in the name, the output or the id."""

    states: Sequence[State] | None = None
    kind: str | None = None
    dataset_id: str | None = None
    text: str | None = None


class Listed(NamedTuple):
    """Some jobs with their numbers, how many there are in all, and the places of those that wait.

    Of two jobs the later one has the larger number.
    """

    jobs: list[Job]
    numbers: list[int]
    total: int
    positions: dict[str, int]


class Whole(NamedTuple):
    """A job with everything that is kept of it."""

    job: Job
    position: int | None
    transitions: list[Transition]
    artifacts: list[KeptArtifact]


def whole(db: sqlite3.Connection, id: str) -> Whole:
    """A job with everything. Raises NotFound."""
    job = get(db, id)
    return Whole(job, position_of(db, job), transitions(db, id), of_job(db, id))


def newest(db: sqlite3.Connection, wanted: Filter, before: int | None, limit: int) -> Listed:
    """The newest first, from before a number on."""
    where, values = _where(wanted)
    older = f"{where} AND (:before IS NULL OR rowid < :before)"
    rows = db.execute(
        f"SELECT rowid, * FROM jobs WHERE {older} ORDER BY rowid DESC LIMIT :limit",
        values | {"before": before, "limit": limit},
    )
    return _listed(db, rows, where, values)


def in_queue(
    db: sqlite3.Connection, wanted: Filter, after: tuple[int, float, str] | None, limit: int
) -> Listed:
    """Those that wait, in the order in which they start, from after a (priority, position, id) on."""
    where, values = _where(wanted._replace(states=("queued",)))
    priority, position, id = after or (None, None, None)
    later = f"{where} AND (:priority IS NULL OR (-priority, position, id) > (-:priority, :position, :id))"
    rows = db.execute(
        f"SELECT rowid, * FROM jobs WHERE {later} ORDER BY priority DESC, position, id LIMIT :limit",
        values | {"priority": priority, "position": position, "id": id, "limit": limit},
    )
    return _listed(db, rows, where, values)


def position_of(db: sqlite3.Connection, job: Job) -> int | None:
    """The place of a job in the queue, from 1; None where it does not wait."""
    if job.state != "queued":
        return None
    ahead: int = db.execute(_AHEAD, (-job.priority, job.position, job.id)).fetchone()[0]
    return ahead + 1


_AHEAD: Final = "SELECT count(*) FROM jobs WHERE state = 'queued' AND (-priority, position, id) < (?, ?, ?)"
_POSITIONS: Final = (
    "SELECT id, row_number() OVER (ORDER BY priority DESC, position, id) AS place"
    " FROM jobs WHERE state = 'queued'"
)


def _listed(db: sqlite3.Connection, cursor: sqlite3.Cursor, where: str, values: dict[str, Any]) -> Listed:
    rows = cursor.fetchall()
    jobs = [job_of(row) for row in rows]
    total: int = db.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()[0]
    has_waiting = any(job.state == "queued" for job in jobs)
    positions = {row["id"]: row["place"] for row in db.execute(_POSITIONS)} if has_waiting else {}
    return Listed(jobs, [row["rowid"] for row in rows], total, positions)


def _where(wanted: Filter) -> tuple[str, dict[str, Any]]:
    terms = ["1"]
    values: dict[str, Any] = {}
    if wanted.states is not None:
        values |= {f"state_{number}": state for number, state in enumerate(wanted.states)}
        terms.append(f"state IN ({', '.join(f':{name}' for name in values)})")
    if wanted.kind is not None:
        terms.append("kind = :kind")
        values["kind"] = wanted.kind
    if wanted.dataset_id is not None:
        terms.append("dataset_id = :dataset_id")
        values["dataset_id"] = wanted.dataset_id
    if wanted.text is not None:
        terms.append("instr(lower(name || ' ' || coalesce(output, '') || ' ' || id), lower(:text))")
        values["text"] = wanted.text
    return " AND ".join(terms), values
