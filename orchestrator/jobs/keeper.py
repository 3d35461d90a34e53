"""The one kernel of a lane: started when a job wants it, kept while it is used, ended when it was idle long.

One lifetime after the other: the next kernel starts when the last one is gone with all it started. Deaths are
counted; after too many nothing starts until somebody says `reset`.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Literal

import anyio
import anyio.to_thread

from contract.errors import KernelDied, KernelFault, KernelTimeout, KernelUnavailable, LorakeetError
from orchestrator.hosting.client import KernelClient, StartSink
from orchestrator.hosting.restarts import MAX_DEATHS, WINDOW_S, RestartPolicy
from orchestrator.jobs import processes
from orchestrator.store.database import Database

#: Opens a kernel, and tells of its process; `connect` with the rest of its arguments bound.
Open = Callable[[StartSink], AbstractAsyncContextManager[KernelClient]]
KernelStatus = Literal["off", "starting", "ready"]


class Keeper:
    """`failure` is why no kernel is started any more, `rests_until` a moment of the steady clock before which
    none is; `restarts` counts the starts after a death. `on_change` must not block."""

    def __init__(
        self,
        open_kernel: Open,
        control: Database,
        boot_id: str,
        idle_s: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._open: Final = open_kernel
        self._control: Final = control
        self._boot_id: Final = boot_id
        self._idle_s: Final = idle_s
        self._on_change: Final = on_change
        self._policy = RestartPolicy()
        self._kernel: KernelClient | None = None
        self._users = self._waiting = 0
        self._wanted = anyio.Event()
        self._released = anyio.Event()
        self._started = anyio.Event()
        self._start_error: LorakeetError | None = None
        self._process: processes.Known | None = None
        self._is_worn = False
        self.status: KernelStatus = "off"
        self.failure: LorakeetError | None = None
        self.rests_until = 0.0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return None if self._process is None else self._process.pid

    @asynccontextmanager
    async def kernel(self) -> AsyncIterator[KernelClient]:
        """The running kernel, started where there is none, kept while the block lasts.

        Raises what keeps it from starting.
        """
        self._waiting += 1
        try:
            kernel = await self._ready()
        finally:
            self._waiting -= 1
        self._users += 1
        try:
            yield kernel
        finally:
            self._users -= 1
            self._released.set()

    def wear(self) -> None:
        """Let no other job have this kernel: what happened in it may have left something behind."""
        self._is_worn = True
        self._released.set()

    def kill(self) -> None:
        """End the kernel now, whatever it does."""
        if self._kernel is not None:
            self._kernel.kill()

    def reset(self) -> None:
        """Forget the deaths, and start again when there is work."""
        self._policy = RestartPolicy()
        self.failure, self.rests_until = None, 0.0
        # The time after which it counts as idle may be another now.
        self._released.set()
        self._on_change()

    async def serve(self) -> None:
        """Start kernels when they are wanted, until canceled; then the last one is ended."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            if self._waiting:
                await self._live()

    async def _ready(self) -> KernelClient:
        while self._kernel is None or self._is_worn or self._kernel.died.is_set():
            started = self._started
            self._wanted.set()
            await started.wait()
            if self._start_error is not None:
                raise self._start_error
        return self._kernel

    async def _live(self) -> None:
        """One kernel, from its start to its end."""
        self._set("starting")
        self._is_worn, self._start_error = False, None
        try:
            async with self._open(self._record) as self._kernel:
                self._set("ready")
                self._tell_started()
                await self._until_over(self._kernel)
                # At once: who comes while a dead one is cleared away waits for the next.
                if self._kernel.died.is_set():
                    self._died()
                self._kernel = None
        except (KernelDied, KernelFault, KernelTimeout) as error:
            self._start_error = error
            self._died()
        except LorakeetError as error:
            self._start_error = self.failure = error
        finally:
            self._kernel = None
            with anyio.CancelScope(shield=True):
                await self._forget()
            self._set("off")
            self._tell_started()

    async def _until_over(self, kernel: KernelClient) -> None:
        """Until it died, or nobody has used it for long, or it is worn and nobody uses it any more."""
        while not kernel.died.is_set() and not (self._is_worn and not self._users):
            self._released = anyio.Event()
            idle_s = None if self._users else self._idle_s()
            with anyio.move_on_after(idle_s) as idling:
                await _either(kernel.died, self._released)
            if idling.cancelled_caught and not (self._users or self._waiting):
                return

    def _died(self) -> None:
        pause_s = self._policy.died(time.monotonic())
        if pause_s is None:
            self.failure = KernelUnavailable(
                f"The kernel died more than {MAX_DEATHS} times within {WINDOW_S:g} s.",
                hint="The logs of the jobs say what it said last. Restart the lane to try again.",
            )
            return
        self.rests_until = time.monotonic() + pause_s
        self.restarts += 1

    async def _record(self, pid: int) -> None:
        self._process = await anyio.to_thread.run_sync(processes.look, pid)
        if self._process is not None:
            # A full disk is no reason not to work: a kernel also ends by itself without its studio.
            with suppress(LorakeetError):
                await processes.record(self._control, self._process, self._boot_id, "kernel")

    async def _forget(self) -> None:
        if self._process is not None:
            # A full disk: the next boot finds that this process is no more.
            with suppress(LorakeetError):
                await processes.forget(self._control, self._process)
            self._process = None

    def _tell_started(self) -> None:
        """The start has come to its end, one way or the other."""
        self._started.set()
        self._started = anyio.Event()

    def _set(self, status: KernelStatus) -> None:
        self.status = status
        self._on_change()


async def _either(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as tasks:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait, event)
