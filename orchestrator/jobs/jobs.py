"""The jobs of a studio: made, looked at, brought to another state, and deleted.

Every change is one transaction that looks at the state that is there; what then has to end is ended.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import msgspec

from contract.errors import LorakeetError, NotFound, StateConflict
from contract.notifications import LogLevel
from contract.rules.paths import to_wire
from contract.validation import Problem, invalid
from orchestrator.clock import now_ms
from orchestrator.files.trash import Origin
from orchestrator.jobs import artifacts, logs, metrics, requests
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.listing import Filter, Listed, Whole, in_queue, newest, whole
from orchestrator.jobs.queue import Queue
from orchestrator.jobs.requests import JobRequest
from orchestrator.jobs.sources import CheckpointRef, JobSource
from orchestrator.jobs.states import TERMINAL, Reason, State
from orchestrator.jobs.table import find, get, insert, move, to_the_end, update

if TYPE_CHECKING:
    from orchestrator.studio import Studio

_NEVER_UNCHANGED: Final = (
    "Run it again with other settings, such as a smaller batch size or resolution, or disable the lane "
    "that it ran on."
)


class Jobs:
    """`kinds` are all that there are."""

    def __init__(self, studio: "Studio", ledger: Ledger, queue: Queue) -> None:
        self._studio: Final = studio
        self._ledger: Final = ledger
        self._queue: Final = queue
        self._control: Final = ledger.control
        self.kinds: Final[Mapping[str, Kind]] = ledger.kinds

    def folder(self, id: str) -> Path:
        """Where a job's attempts keep what they need."""
        return self._studio.home / "runs" / id

    async def create(self, id: str, request: JobRequest, parent_id: str | None = None) -> Job:
        """Put a job at the end of the queue; the same `id` again changes nothing.

        Raises InvalidParams with every problem, DiskFull and StoreDamaged.
        """
        job = await requests.new_job(self._studio, self.kinds, id, request, parent_id)
        outputs = str(self._studio.home / "outputs")
        look = partial(requests.outputs_there, makes_steps=self.kinds[job.kind].makes_steps)
        is_there = await anyio.to_thread.run_sync(look, outputs, job.output)
        await self._ledger.change(lambda db: _create(db, job, is_there, self._ledger.boot_id), "job.created")
        return await self.get(id)

    async def get(self, id: str) -> Job:
        """One job. Raises NotFound."""
        return await self._control.read(lambda db: get(db, id))

    async def whole(self, id: str) -> Whole:
        """One job with everything. Raises NotFound."""
        return await self._control.read(lambda db: whole(db, id))

    async def newest(self, wanted: Filter, before: int | None, limit: int) -> Listed:
        """The newest first, from before a number on."""
        return await self._control.read(lambda db: newest(db, wanted, before, limit))

    async def in_queue(self, wanted: Filter, after: tuple[int, float, str] | None, limit: int) -> Listed:
        """Those that wait, in the order in which they start, from after a (priority, position, id) on."""
        return await self._control.read(lambda db: in_queue(db, wanted, after, limit))

    async def wait(self, id: str, is_there: Callable[[Job], bool], timeout_s: float) -> Job:
        """The job, once `is_there` says so, or the time is over. Raises NotFound."""
        return await self._ledger.wait(id, is_there, timeout_s)

    async def cancel(self, id: str, *, now: bool = False) -> Job:
        """End it, or take it out of the queue; nothing happens where it has ended. `now`: without what a
        later attempt would go on from. Raises NotFound."""
        job = await self._change(id, self._canceled)
        if job.state == "canceling":
            self._queue.end(id, now=now)
        return job

    async def pause(self, id: str) -> Job:
        """End its attempt so that a later one goes on. Raises NotFound and StateConflict."""

        def pause(db: sqlite3.Connection, job: Job) -> Job:
            kind = self.kinds.get(job.kind)
            if kind is None or not kind.resumable:
                raise StateConflict(f"A job of the kind `{job.kind}` cannot be paused.", where=id)
            if job.state == "paused" or (job.state, job.reason) == ("canceling", "pause_requested"):
                return job
            state: State = "paused" if job.state == "queued" else "canceling"
            return move(db, job, state, "pause_requested", self._ledger.boot_id)

        job = await self._change(id, pause)
        if job.state == "canceling":
            self._queue.end(id)
        return job

    async def resume(self, id: str, *, is_again: bool = False) -> Job:
        """Let a paused job go on. `is_again`: this may have been done before.

        Raises NotFound and StateConflict.
        """
        return await self._next(id, ("paused",), "resume_requested", is_again)

    async def retry(self, id: str, *, is_again: bool = False) -> Job:
        """Another attempt of a job that has not succeeded, at the end of the queue. See `resume`.

        Raises NotFound and StateConflict, also where it would run out of memory again.
        """
        return await self._next(id, ("failed", "canceled", "interrupted"), "retry_requested", is_again)

    async def rerun(
        self, id: str, new_id: str, changes: Mapping[str, Any], checkpoint: int | None = None, **fields: Any
    ) -> Job:
        """A new job like this one, its settings under `changes`, its request under `fields`; it goes on from
        `checkpoint`, the number of an artifact of this one.

        Raises NotFound, InvalidParams, StateConflict, DiskFull and StoreDamaged.
        """
        before = await self.get(id)
        if (kind := self.kinds.get(before.kind)) is None:
            raise StateConflict(f"There is no kind `{before.kind}` any more.", where=id)
        settings = kind.layered(before.settings, changes)
        if settings == before.settings:
            self._refuse_unchanged(before)
        request = _again(before, settings, fields)
        if checkpoint is not None:
            request = _from_checkpoint(request, CheckpointRef(job=id, artifact=checkpoint))
        return await self.create(new_id, request, parent_id=id)

    async def order(self, id: str, action: str) -> None:
        """Give a running job an order that its kind knows; what it does is told in its own events.

        Raises NotFound, and StateConflict where it does not run, or its kind does not know the order.
        """
        job = await self.get(id)
        kind = self.kinds.get(job.kind)
        if kind is None or action not in kind.actions:
            raise StateConflict(f"A job of the kind `{job.kind}` takes no order `{action}`.", where=id)
        await self._queue.order(job, action)

    async def describe(
        self, id: str, check: Callable[[Job], None], name: str | None, priority: int | None
    ) -> Job:
        """Give it another name or priority, if `check` does not raise. Raises NotFound."""

        def change(db: sqlite3.Connection, job: Job) -> Job:
            check(job)
            values = {"name": name, "priority": priority}
            changed = {key: value for key, value in values.items() if value is not None}
            if not changed:
                return job
            update(db, id, changed | {"changed_ms": now_ms()})
            return get(db, id)

        return await self._change(id, change)

    async def delete(self, id: str) -> None:
        """Forget a job that has ended; its folder goes to the trash, what it made elsewhere stays.

        Raises NotFound, StateConflict, DiskFull and FileUnwritable; then it is still there.
        """
        job = await self.get(id)
        _require_ended(job)
        trashed = await anyio.to_thread.run_sync(self._to_trash, job)
        try:
            await self._control.write(lambda db: _delete(db, id))
        except LorakeetError:
            if trashed is not None:
                undo = partial(self._studio.trash.restore, trashed, durably=False)
                await anyio.to_thread.run_sync(undo)
            raise
        self._ledger.tell_deleted(id)
        with suppress(LorakeetError):
            await metrics.forget(self._studio.telemetry, id)

    async def log(self, id: str, count: int, level: LogLevel) -> list[logs.Line]:
        """The last lines of its log. Raises NotFound."""
        await self.get(id)
        await self._queue.flush_log(id)
        return await anyio.to_thread.run_sync(logs.tail, self.folder(id), count, level)

    async def log_file(self, id: str) -> Path:
        """The whole log. Raises NotFound."""
        await self.get(id)
        await self._queue.flush_log(id)
        return self.folder(id) / logs.FILE

    async def metrics(
        self, id: str, keys: Sequence[str] | None, from_step: int, max_points: int
    ) -> dict[str, list[metrics.Point]]:
        """What it has measured, by key; `keys` None means all. Raises NotFound."""
        await self.get(id)
        return await metrics.series(self._studio.telemetry, id, keys, from_step, max_points)

    async def artifact(self, id: str, number: int) -> artifacts.KeptArtifact:
        """One of its files. Raises NotFound."""
        return await self._control.read(lambda db: artifacts.get(db, id, number))

    async def _change(self, id: str, change: Callable[[sqlite3.Connection, Job], Job]) -> Job:
        """The job after a change of one transaction; told only where something is different."""
        before = after = await self.get(id)

        def write(db: sqlite3.Connection) -> list[Job]:
            nonlocal before, after
            before = get(db, id)
            after = change(db, before)
            return [after] if after != before else []

        await self._ledger.change(write)
        return after

    def _canceled(self, db: sqlite3.Connection, job: Job) -> Job:
        if job.state in TERMINAL or (job.state, job.reason) == ("canceling", "cancel_requested"):
            return job
        state: State = "canceled" if job.state in ("queued", "paused") else "canceling"
        return move(db, job, state, "cancel_requested", self._ledger.boot_id)

    async def _next(self, id: str, states: tuple[State, ...], reason: Reason, is_again: bool) -> Job:
        def retry(db: sqlite3.Connection, job: Job) -> Job:
            if is_again and job.state not in (*states, "succeeded"):
                return job
            if job.state not in states:
                raise StateConflict(f"The job is {job.state}; that has no next attempt.", where=id)
            if reason == "retry_requested":
                self._refuse_unchanged(job)
                job = to_the_end(db, job)
            return move(db, job, "queued", reason, self._ledger.boot_id)

        return await self._change(id, retry)

    def _refuse_unchanged(self, job: Job) -> None:
        """Raises StateConflict for a job that ran out of memory and would run on the same lane again."""
        if job.reason == "out_of_memory" and self._queue.is_open(job.lane):
            raise StateConflict(
                "This job ran out of memory; unchanged it would again.", where=job.id, hint=_NEVER_UNCHANGED
            )

    def _to_trash(self, job: Job) -> str | None:
        folder = self.folder(job.id)
        origin = Origin(
            kind="job",
            name=job.name,
            root="runs",
            path=job.id,
            root_folder=to_wire(str(folder.parent)),
            at=to_wire(str(folder)),
        )
        try:
            return self._studio.trash.put(origin).id
        except NotFound:
            # It never began.
            return None


def _create(db: sqlite3.Connection, job: Job, is_there: Callable[[str], bool], boot_id: str) -> list[Job]:
    if find(db, job.id) is not None:
        return []
    return [insert(db, requests.with_own_output(db, job, is_there), boot_id)]


def _delete(db: sqlite3.Connection, id: str) -> None:
    _require_ended(get(db, id))
    db.execute("DELETE FROM jobs WHERE id = ?", (id,))


def _require_ended(job: Job) -> None:
    if job.state not in TERMINAL:
        raise StateConflict(
            f"The job is {job.state}; only one that has ended can be deleted.",
            where=job.id,
            hint="Cancel it first.",
        )


def _from_checkpoint(request: JobRequest, checkpoint: CheckpointRef) -> JobRequest:
    """The same from a state of an earlier job. Raises InvalidParams."""
    if request.source is None:
        raise invalid([Problem("$.checkpoint", f"`{request.kind}` goes on from no checkpoint")])
    source = msgspec.structs.replace(request.source, checkpoint=checkpoint)
    return msgspec.structs.replace(request, source=source)


def _again(job: Job, settings: dict[str, Any], fields: Mapping[str, Any]) -> JobRequest:
    """The request that `job` was, with other fields."""
    same: dict[str, Any] = {
        "kind": job.kind,
        "settings": settings,
        "source": msgspec.convert(job.source, JobSource | None),
        "existing": job.existing,
        "output": job.output,
        "name": job.name,
        "priority": job.priority,
    }
    return JobRequest(**same | {name: value for name, value in fields.items() if value is not None})
