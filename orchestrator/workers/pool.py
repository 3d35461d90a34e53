"""A few worker processes and the order in which they are given work.

They start when there is work, end when there was none for a while, and are replaced when they die, do not
answer in time, or ran out of memory. A task gets one attempt; repeating it is the caller's decision.
"""

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import anyio
import msgspec

from contract.errors import (
    NotReady,
    OutOfMemory,
    WireError,
    WorkerDied,
    WorkerTimeout,
    from_wire,
)
from orchestrator.groups import task_group
from orchestrator.workers import worker as processes
from orchestrator.workers.limits import WorkerLimits
from orchestrator.workers.tasks import CONFINE, Confinement, P, R, Task
from orchestrator.workers.turns import Priority, Ticket, Turns
from orchestrator.workers.wire import Answered
from orchestrator.workers.worker import Worker

#: -P: a folder named `orchestrator` where the user happens to stand must not be taken for ours.
COMMAND: Final = (sys.executable, "-P", "-m", "orchestrator.workers")
#: Seconds in which the task of a canceled caller may still end by itself, so that its worker need not die.
CANCEL_S: Final = 0.2


class WorkerPool:
    """Use as `async with WorkerPool() as pool`; leaving the block ends every worker, whatever it does."""

    def __init__(
        self, size: int = 2, limits: WorkerLimits | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        self._limits = limits or WorkerLimits()
        self._command = command
        self._turns = Turns(size)
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._open = AsyncExitStack()
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._tasks = await self._open.enter_async_context(task_group())
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._is_open = False
        for worker in self._workers:
            worker.kill()
        for worker in list(self._workers):
            await self._end(worker)
        self._tasks.cancel_scope.cancel()
        return await self._open.__aexit__(kind, error, trace)

    async def run(
        self,
        task: Task[P, R],
        arguments: P,
        *,
        timeout_s: float | None = None,
        priority: Priority | Ticket = "interactive",
    ) -> R:
        """Do `task` in a worker. `timeout_s` counts from when a worker has it; None: as the limits say.

        A ticket as the `priority` is for those who may be in a hurry later. Raises what the task raised,
        WorkerDied, WorkerTimeout, and NotReady once the pool is closed. If this is canceled, the task ends at
        once, with its worker if need be.
        """
        ticket = priority if isinstance(priority, Ticket) else Ticket(priority)
        async with self._turns.turn(ticket):
            try:
                limit_s = self._limits.task_s if timeout_s is None else timeout_s
                return await self._work(await self._take(), task, arguments, limit_s)
            except WorkerDied as death:
                raise death if self._is_open else _closed() from None

    def hurry(self, ticket: Ticket) -> None:
        """Somebody waits now for what was to be done in bulk."""
        self._turns.hurry(ticket)

    def pids(self) -> list[int]:
        """The processes that run now."""
        return sorted(worker.pid for worker in self._workers if worker.is_alive)

    async def _work(self, worker: Worker, task: Task[P, R], arguments: P, limit_s: float) -> R:
        try:
            return await self._ask(worker, task, arguments, limit_s)
        finally:
            with anyio.CancelScope(shield=True):
                await self._give_back(worker)

    async def _take(self) -> Worker:
        """A worker that waits for work; a new one where there is none."""
        while self._idle and self._is_open:
            # The one that worked last is the least likely to have been swapped out.
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await self._end(worker)
        if not self._is_open:
            raise _closed()
        return await self._start()

    async def _start(self) -> Worker:
        worker = await processes.start(self._command)
        if not self._is_open:
            await worker.end()
            raise _closed()
        self._workers.add(worker)
        self._tasks.start_soon(worker.listen)
        self._tasks.start_soon(self._mind, worker)
        try:
            confinement = Confinement(memory_bytes=self._limits.memory_bytes)
            await self._ask(worker, CONFINE, confinement, self._limits.start_s)
        except BaseException:
            await self._end(worker)
            raise
        return worker

    async def _ask(self, worker: Worker, task: Task[P, R], arguments: P, timeout_s: float) -> R:
        with anyio.move_on_after(timeout_s):
            return _outcome(task, await worker.ask(task.name, arguments), worker)
        worker.kill()
        raise WorkerTimeout(
            f"`{task.name}` took longer than {timeout_s:g} s.",
            hint="The file may be damaged, or made to keep programs busy.",
            details={"task": task.name, "timeout_s": timeout_s},
        )

    async def _give_back(self, worker: Worker) -> None:
        """Keep the worker for the next task, unless it has not ended this one or has done its share."""
        if worker.is_busy and worker.is_alive:
            await self._settle(worker)
        if self._is_open and worker.is_alive and not worker.is_busy and worker.served < self._limits.tasks:
            worker.idle_since = anyio.current_time()
            self._idle.append(worker)
        else:
            await self._end(worker)

    async def _settle(self, worker: Worker) -> None:
        with anyio.move_on_after(CANCEL_S):
            try:
                await worker.answer()
            except WorkerDied:
                return

    async def _mind(self, worker: Worker) -> None:
        """End the worker once it has been idle for long."""
        while not worker.ended.is_set():
            since = worker.idle_since if worker in self._idle else anyio.current_time()
            if worker in self._idle and anyio.current_time() >= since + self._limits.idle_s:
                self._idle.remove(worker)
                await self._end(worker)
            with anyio.move_on_at(since + self._limits.idle_s):
                await worker.ended.wait()

    async def _end(self, worker: Worker) -> None:
        await worker.end()
        self._workers.discard(worker)


def _outcome(task: Task[P, R], answered: Answered, worker: Worker) -> R:
    """The result that was answered. Raises the error that was, and WorkerDied for neither."""
    if isinstance(answered.error, WireError):
        if answered.error.data.kind == OutOfMemory.kind:
            # What it could not get rid of would fail the next task.
            worker.kill()
        raise from_wire(answered.error)
    try:
        assert isinstance(answered.result, msgspec.Raw)
        return msgspec.json.decode(answered.result, type=task.result)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise worker.broken() from None


def _closed() -> NotReady:
    return NotReady("The studio is stopping.")
