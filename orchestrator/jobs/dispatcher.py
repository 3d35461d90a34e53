"""The running half of the queue: brings waiting jobs onto lanes, and everything on them to an end."""

import sqlite3
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
from anyio.abc import TaskGroup

from contract.errors import LorakeetError, NotFound, StateConflict
from orchestrator.jobs.attempt import Attempt
from orchestrator.jobs.chooser import Choice, LaneNow, choose, suits
from orchestrator.jobs.keeper import Keeper
from orchestrator.jobs.lanes import Lane
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.machine import kernel_opener
from orchestrator.jobs.table import assign
from orchestrator.jobs.waiting import due

if TYPE_CHECKING:
    from orchestrator.studio import Studio

#: Seconds until the next look after the disk was full.
AGAIN_S: Final = 1.0
#: Seconds that jobs may take to end after their kernels were killed.
KILLED_S: Final = 3.0


class _Look(NamedTuple):
    """What starts, and the seconds after which something else may."""

    choices: list[Choice]
    later_s: list[float]


class Dispatcher:
    """`is_paused`: nothing new starts. Made and served by the Queue."""

    def __init__(self, studio: "Studio", ledger: Ledger, lanes: Sequence[Lane]) -> None:
        self._studio: Final = studio
        self._ledger: Final = ledger
        self._lanes: Final = lanes
        self._changed = anyio.Event()
        self._is_stopping = False
        self._tasks: TaskGroup
        self.is_paused = False
        for lane in lanes:
            if lane.spec.kind != "studio":
                lane.keeper = self._keeper(lane)

    def wake(self) -> None:
        """Look again: something has changed."""
        self._changed.set()
        self._changed = anyio.Event()

    def attempt(self, job_id: str) -> Attempt | None:
        """The attempt of a job that runs now."""
        return next((lane.attempts[job_id] for lane in self._lanes if job_id in lane.attempts), None)

    async def serve(self) -> None:
        """Start what can be started, until canceled. Without `stop`, jobs are cut off."""
        async with anyio.create_task_group() as self._tasks:
            for lane in self._lanes:
                if lane.keeper is not None:
                    self._tasks.start_soon(lane.keeper.serve)
            while True:
                changed = self._changed
                with anyio.move_on_after(await self._start_what_can()):
                    await changed.wait()

    async def stop(self) -> None:
        """Bring everything that runs to its end, gracefully at first."""
        self._is_stopping = True
        for attempt in self._attempts():
            attempt.end(is_stopping=True)
        began = time.monotonic()
        for stop_s in sorted({attempt.kind.stop_s for attempt in self._attempts()}):
            await self._wait_for(self._lanes_with(stop_s), began + stop_s - time.monotonic())
            for lane in self._lanes_with(stop_s):
                if lane.keeper is not None:
                    lane.keeper.kill()
        await self._wait_for(self._lanes, KILLED_S)

    def _lanes_with(self, stop_s: float) -> list[Lane]:
        """Those with a job that may take no longer."""
        return [
            lane for lane in self._lanes if any(each.kind.stop_s <= stop_s for each in lane.attempts.values())
        ]

    async def _wait_for(self, lanes: Sequence[Lane], seconds: float) -> None:
        """Until these lanes are done, or the time is over."""
        with anyio.move_on_after(seconds):
            while any(lane.attempts for lane in lanes):
                await self._changed.wait()

    async def _start_what_can(self) -> float | None:
        """Seconds until the next look though nothing has changed; None where that makes no sense."""
        if self.is_paused or self._is_stopping:
            return None
        now = time.monotonic()
        lanes = [lane.now() for lane in self._lanes]
        looks = [lane.rests_until - now for lane in self._lanes if lane.rests_until > now]
        try:
            look = await self._ledger.control.read(lambda db: self._look(db, lanes, now))
            for choice in look.choices:
                if not (self.is_paused or self._is_stopping):
                    await self._start(choice)
        except LorakeetError:
            # The disk is full. Nothing has started, and everything waits where it was.
            return AGAIN_S
        looks += look.later_s
        return max(0.0, min(looks)) if looks else None

    def _look(self, db: sqlite3.Connection, lanes: list[LaneNow], now: float) -> _Look:
        """What starts now."""
        kinds = [
            kind
            for kind in self._ledger.kinds.values()
            if any(lane.is_free and suits(lane.spec, kind.lane, kind.prefers_device) for lane in lanes)
        ]
        found = due(db, kinds, sum(lane.spec.slots - lane.busy for lane in lanes if lane.is_free))
        chosen = choose(found.waiting, lanes, now)
        later_s = [] if found.later_s is None else [found.later_s]
        if chosen.look_again is not None:
            later_s.append(chosen.look_again - now)
        return _Look(chosen.choices, later_s)

    async def _start(self, choice: Choice) -> None:
        try:
            (job,) = await self._ledger.change(
                lambda db: [assign(db, choice.job_id, choice.lane_id, self._ledger.boot_id)]
            )
        except (StateConflict, NotFound):
            # Somebody was faster: it waits no more.
            return
        kind = self._ledger.kinds[job.kind]
        lane = next(lane for lane in self._lanes if lane.spec.id == choice.lane_id)
        attempt = Attempt(self._studio, self._ledger, kind, job)
        lane.take(attempt)
        if self._is_stopping:
            attempt.end(is_stopping=True)
        self._tasks.start_soon(self._carry_out, lane, attempt)

    async def _carry_out(self, lane: Lane, attempt: Attempt) -> None:
        try:
            await attempt.carry_out(lane.keeper)
        finally:
            del lane.attempts[attempt.job.id]
            self._ledger.on_change()

    def _attempts(self) -> list[Attempt]:
        return [attempt for lane in self._lanes for attempt in lane.attempts.values()]

    def _keeper(self, lane: Lane) -> Keeper:
        return Keeper(
            kernel_opener(self._studio, lane.spec.env, lane.hear),
            self._ledger.control,
            self._ledger.boot_id,
            lambda: self._studio.settings.current.kernel.idle_s,
            lambda: self._ledger.on_change(),
        )
