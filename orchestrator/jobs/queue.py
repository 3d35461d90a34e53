"""The queue: the order of what waits, whether anything starts, and the lanes. What is said here is kept."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from contract.base import Reply
from contract.errors import LorakeetError, NotFound, StaleVersion, StateConflict
from orchestrator.groups import task_group
from orchestrator.jobs.chooser import LaneSpec
from orchestrator.jobs.dispatcher import Dispatcher
from orchestrator.jobs.job import Job
from orchestrator.jobs.keeper import Keeper
from orchestrator.jobs.lanes import Lane, LaneView
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.machine import chosen, specs_of
from orchestrator.jobs.order import Place
from orchestrator.jobs.reporter import JobProgress
from orchestrator.jobs.table import get
from orchestrator.settings import DeviceSettings, Settings

if TYPE_CHECKING:
    from orchestrator.studio import Studio

#: Seconds between two events about the queue.
TELL_S: Final = 0.25
_PAUSED: Final = "queue_paused"


class QueueChange(Reply, kw_only=True):
    """The queue in an event; `waiting` counts the jobs that wait."""

    paused: bool
    waiting: int
    lanes: list[LaneView]


class QueueView(Reply, kw_only=True):
    """The queue. `waiting` has the ids of the jobs that wait, in the order in which they start."""

    paused: bool
    waiting: list[str]
    lanes: list[LaneView]


class Queue:
    """Made by `open_queue`; `is_paused`: nothing new starts."""

    def __init__(self, studio: "Studio", ledger: Ledger, specs: Sequence[LaneSpec], *, run: bool) -> None:
        self._studio: Final = studio
        self._ledger: Final = ledger
        self._settings = studio.settings.current
        self._dirty = anyio.Event()
        self.lanes: Final = [Lane(spec) for spec in specs]
        self.is_paused = False
        self.dispatcher: Final = Dispatcher(studio, ledger, self.lanes) if run else None
        ledger.on_change = self._changed
        studio.settings.listen(self._configure)

    async def view(self) -> QueueView:
        """As it is. Raises StoreDamaged."""
        places = await self._ledger.control.read(_places)
        return QueueView(
            paused=self.is_paused,
            waiting=[place.id for place in places],
            lanes=[lane.view() for lane in self.lanes],
        )

    async def pause(self, is_paused: bool) -> None:
        """Start nothing new, or go on; what runs is left alone. Raises DiskFull and StoreDamaged."""
        before, value = self.is_paused, int(is_paused)
        # First, so that nothing starts any more when somebody is told that it is paused.
        self._let(is_paused)
        try:
            await self._ledger.control.write(lambda db: db.execute(_REMEMBER, (_PAUSED, value)) and None)
        except LorakeetError:
            self._let(before)
            raise
        finally:
            self._changed()

    async def reorder(self, reordered: Callable[[list[Place]], list[Place]]) -> None:
        """Bring what waits into another order. Raises what `reordered` raises, DiskFull and StoreDamaged."""
        await self._ledger.change(lambda db: _reorder(db, reordered))
        self._changed()

    def lane(self, id: str) -> Lane:
        """One of the lanes. Raises NotFound."""
        found = next((lane for lane in self.lanes if lane.spec.id == id), None)
        if found is None:
            raise NotFound(f"There is no lane {id}.", where=id)
        return found

    async def set_lane(self, id: str, weight: float | None, enabled: bool | None) -> None:
        """Give a device more or less work, or none, from now on and after every restart.

        Raises NotFound, StateConflict for a lane that is always there, InvalidParams, SettingsInvalid,
        DiskFull and FileUnwritable.
        """
        spec = self.lane(id).spec
        if not spec.is_gpu:
            raise StateConflict(f"The lane {id} is always there, and has no weight.", where=id)
        wanted = DeviceSettings(
            id=id,
            weight=spec.weight if weight is None else weight,
            enabled=spec.enabled if enabled is None else enabled,
        )
        try:
            await self._save(wanted)
        except StaleVersion:
            # The file was edited meanwhile; now that is known.
            await self._save(wanted)

    def restart(self, id: str) -> Lane:
        """Forget why it gave up, and give its next job a new kernel. Raises NotFound and StateConflict."""
        lane = self.lane(id)
        if lane.keeper is None:
            raise StateConflict(f"The lane {id} has no kernel.", where=id)
        lane.keeper.wear()
        self._reset(lane.keeper)
        self._changed()
        return lane

    def renew_kernels(self) -> None:
        """Give every next job a new kernel: what kernels are told at their start has changed."""
        for lane in self.lanes:
            if lane.keeper is not None:
                lane.keeper.wear()
                self._reset(lane.keeper)

    def is_open(self, id: str | None) -> bool:
        """Whether a lane exists and takes part."""
        return any(lane.spec.id == id and lane.spec.enabled for lane in self.lanes)

    def end(self, job_id: str, *, now: bool = False) -> None:
        """Bring a job that runs to its end; the table says what for. `now`: without what a later attempt
        would go on from."""
        if self.dispatcher is not None and (attempt := self.dispatcher.attempt(job_id)) is not None:
            attempt.end(now=now)

    async def order(self, job: Job, action: str) -> None:
        """Pass an order on to a job that runs. Raises StateConflict where it does not."""
        attempt = None if self.dispatcher is None else self.dispatcher.attempt(job.id)
        if attempt is None:
            raise StateConflict(f"The job is {job.state}; only one that runs takes orders.", where=job.id)
        await attempt.order(action)

    def progress_of(self, job: Job) -> JobProgress | None:
        """Where a job stands, or stood when it ended."""
        attempt = None if self.dispatcher is None else self.dispatcher.attempt(job.id)
        if attempt is not None and attempt.reporter.latest is not None:
            return attempt.reporter.latest
        return None if job.progress is None else msgspec.convert(job.progress, JobProgress)

    async def flush_log(self, job_id: str) -> None:
        """Bring what a running job has said to its log."""
        if self.dispatcher is not None and (attempt := self.dispatcher.attempt(job_id)) is not None:
            await attempt.reporter.flush_log()

    async def load(self) -> None:
        """Take up what was said before the last stop. Raises StoreDamaged."""
        row = await self._ledger.control.read(
            lambda db: db.execute("SELECT value FROM facts WHERE name = ?", (_PAUSED,)).fetchone()
        )
        self._let(row is not None and bool(row["value"]))

    async def tell(self) -> None:
        """Tell of changes, until canceled."""
        while True:
            await self._dirty.wait()
            self._dirty = anyio.Event()
            try:
                waiting = await self._ledger.control.read(lambda db: db.execute(_COUNT).fetchone()[0])
            except LorakeetError:
                continue
            lanes = [lane.view() for lane in self.lanes]
            change = QueueChange(paused=self.is_paused, waiting=waiting, lanes=lanes)
            self._studio.events.publish(("queue",), "queue.changed", change)
            await anyio.sleep(TELL_S)

    def _let(self, is_paused: bool) -> None:
        self.is_paused = is_paused
        if self.dispatcher is not None:
            self.dispatcher.is_paused = is_paused

    def _changed(self) -> None:
        self._dirty.set()
        if self.dispatcher is not None:
            self.dispatcher.wake()

    def _configure(self, settings: Settings) -> None:
        before, self._settings = self._settings, settings
        specs = [chosen(lane.spec, settings) for lane in self.lanes]
        if [_share(spec) for spec in specs] != [_share(lane.spec) for lane in self.lanes]:
            self._count_anew()
        for lane, spec in zip(self.lanes, specs, strict=True):
            lane.spec = spec
        for lane in self.lanes:
            if lane.keeper is not None:
                if _told_at_start(before) != _told_at_start(settings):
                    lane.keeper.wear()
                self._reset(lane.keeper)
        self._changed()

    def _reset(self, keeper: Keeper) -> None:
        """What has failed may work now."""
        if keeper.failure is not None:
            self._count_anew()
        keeper.reset()

    def _count_anew(self) -> None:
        """Shares are counted from here on: nobody catches up for the time in which a lane took no part."""
        for lane in self.lanes:
            lane.served = 0

    async def _save(self, wanted: DeviceSettings) -> None:
        settings = self._studio.settings
        others = [each for each in settings.current.devices if each.id != wanted.id]
        patch = {"devices": msgspec.to_builtins([*others, wanted])}
        await settings.change(patch, settings.etag)


@asynccontextmanager
async def open_queue(
    studio: "Studio", ledger: Ledger, devices: Sequence[LaneSpec], *, run: bool
) -> AsyncIterator[Queue]:
    """The queue with a lane for each of `devices`, and those that are always there.

    Unless `run`, nothing starts. Raises StoreDamaged.
    """
    queue = Queue(studio, ledger, specs_of(devices, studio.settings.current), run=run)
    await queue.load()
    if queue.dispatcher is None:
        yield queue
        return
    async with task_group() as tasks:
        # Shielded: while the studio is being canceled, its jobs still have to end and be written down.
        serving = anyio.CancelScope(shield=True)
        tasks.start_soon(_within, serving, queue.dispatcher.serve)
        tasks.start_soon(queue.tell)
        try:
            yield queue
        finally:
            with anyio.CancelScope(shield=True):
                await queue.dispatcher.stop()
            serving.cancel()
            tasks.cancel_scope.cancel()


_REMEMBER: Final = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"
_COUNT: Final = "SELECT count(*) FROM jobs WHERE state = 'queued'"
_PLACES: Final = (
    "SELECT id, priority, position FROM jobs INDEXED BY jobs_waiting WHERE state = 'queued'"
    " ORDER BY priority DESC, position, id"
)


def _places(db: sqlite3.Connection) -> list[Place]:
    return [Place(row["id"], row["priority"]) for row in db.execute(_PLACES)]


def _reorder(db: sqlite3.Connection, reordered: Callable[[list[Place]], list[Place]]) -> list[Job]:
    """The jobs whose priority has changed with their place."""
    before = _places(db)
    positions = sorted(row["position"] for row in db.execute(_PLACES))
    after = reordered(before)
    rows = [(place.priority, position, place.id) for place, position in zip(after, positions, strict=True)]
    db.executemany("UPDATE jobs SET priority = ?, position = ? WHERE id = ?", rows)
    return [get(db, id) for id, _ in set(after) - set(before)]


def _told_at_start(settings: Settings) -> tuple[Any, ...]:
    """What a kernel is told once, at its start."""
    return settings.kernel.command, settings.limits.max_image_pixels


def _share(spec: LaneSpec) -> tuple[float, bool]:
    return spec.weight, spec.enabled


async def _within(scope: anyio.CancelScope, serve: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await serve()
