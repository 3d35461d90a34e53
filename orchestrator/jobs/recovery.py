"""After a boot: nothing that an older one left is running, whatever the table says.

Processes that outlived their studio are ended first, so that no job ever has two kernels.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from orchestrator.boot import Boot
from orchestrator.jobs import processes
from orchestrator.jobs.job import Job, job_of
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.states import ALIVE, Reason, State
from orchestrator.jobs.table import automatic_attempts, move
from orchestrator.store.database import Database

#: Changes of a moment so long before the last kept event may not have been told: they come again.
_UNTOLD_MS: Final = 10_000


async def recover(control: Database, boot: Boot, kinds: Mapping[str, Kind]) -> list[processes.Known]:
    """Settle what older boots left; the processes that were ended for it.

    Raises DiskFull and StoreDamaged.
    """
    ended = await processes.end_outlived(control, boot.boot_id)
    await control.write(lambda db: _settle_all(db, boot, kinds))
    return ended


async def untold(control: Database, telemetry: Database, boot: Boot) -> list[Job]:
    """Jobs that have changed since older boots told of anything, the oldest change first."""
    last = await telemetry.read(lambda db: db.execute(_LAST_TOLD, (boot.started_ms,)).fetchone())
    if last is None:
        # Nobody can come back to events that are not there.
        return []
    rows = await control.read(lambda db: db.execute(_CHANGED, (last["at_ms"] - _UNTOLD_MS,)).fetchall())
    return [job_of(row) for row in rows]


_LAST_TOLD: Final = "SELECT at_ms FROM events WHERE at_ms < ? ORDER BY id DESC LIMIT 1"
_CHANGED: Final = "SELECT * FROM jobs WHERE changed_ms >= ? ORDER BY changed_ms, id"


def endings(state: State, reason: Reason, *, was_clean: bool, may_retry: bool) -> list[tuple[State, Reason]]:
    """What becomes, one after the other, of a job that was `state` for `reason` when its studio ended. Pure.

    `may_retry`: whether the job's kind is tried again by itself, and was not as often as it may be.
    """
    match state:
        case "canceling" if reason == "pause_requested":
            return [("paused", "paused")]
        case "canceling":
            return [("canceled", "canceled")]
        case "interrupted":
            return [("queued", "requeued")] if may_retry else []
    if was_clean:
        return [("interrupted", "studio_stopped"), *_again("requeued", may_retry)]
    return [("interrupted", "studio_died"), *_again("retried", may_retry)]


def _again(reason: Reason, may_retry: bool) -> list[tuple[State, Reason]]:
    return [("queued", reason)] if may_retry else []


def _settle_all(db: sqlite3.Connection, boot: Boot, kinds: Mapping[str, Kind]) -> None:
    for row in db.execute(_LEFT, (boot.boot_id,)).fetchall():
        job = job_of(row)
        kind = kinds.get(job.kind)
        may_retry = kind is not None and automatic_attempts(db, job.id) < kind.retries
        for state, reason in endings(job.state, job.reason, was_clean=boot.was_clean, may_retry=may_retry):
            job = move(db, job, state, reason, boot.boot_id)


#: `IS NOT`, because a job that no boot has ever claimed runs no more than others do.
_LEFT: Final = (
    f"SELECT * FROM jobs WHERE boot_id IS NOT ? AND (state IN ({', '.join(map(repr, sorted(ALIVE)))})"
    " OR (state = 'interrupted' AND reason = 'studio_stopped')) ORDER BY priority DESC, position"
)
