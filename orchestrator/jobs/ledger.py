"""Changes of jobs: committed first, then told to everybody who follows, in the order of the commits."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from orchestrator.events import EventLog
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.table import get
from orchestrator.jobs.views import change_of
from orchestrator.store.database import Database

#: Makes changes inside of a transaction; the jobs as they were after each.
Changes = Callable[[sqlite3.Connection], list[Job]]


class Ledger:
    """`on_change` is called after every change; it must not block."""

    def __init__(self, control: Database, events: EventLog, boot_id: str, kinds: Mapping[str, Kind]) -> None:
        self.control: Final = control
        self.boot_id: Final = boot_id
        self.kinds: Final = kinds
        self._events: Final = events
        self._changed = anyio.Event()
        self.on_change: Callable[[], None] = lambda: None

    async def change(self, changes: Changes, event: str = "job.changed") -> list[Job]:
        """What `changes` returns, once it is committed. Raises what it raised, DiskFull and StoreDamaged."""
        # What was committed is also told, whoever has stopped waiting for it.
        with anyio.CancelScope(shield=True):
            changed = await self.control.write(changes)
        for job in changed:
            self.tell(job, event)
        if changed:
            self._wake()
        return changed

    def tell(self, job: Job, event: str = "job.changed") -> None:
        """What a job is now, to those who follow it or all jobs."""
        self._events.publish(("jobs", f"job:{job.id}"), event, change_of(job, self.kinds.get(job.kind)))

    def tell_deleted(self, job_id: str) -> None:
        """That a job is no more."""
        self._events.publish(("jobs", f"job:{job_id}"), "job.deleted", {"id": job_id})
        self._wake()

    async def wait(self, job_id: str, is_there: Callable[[Job], bool], timeout_s: float) -> Job:
        """The job, once it is where one wants it, or the time is over. Raises NotFound."""
        with anyio.move_on_after(timeout_s):
            while True:
                changed = self._changed
                job = await self.control.read(lambda db: get(db, job_id))
                if is_there(job):
                    return job
                await changed.wait()
        return await self.control.read(lambda db: get(db, job_id))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        self.on_change()
