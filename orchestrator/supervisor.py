"""Keeps one kernel running: restarts it with growing pauses, gives up when it dies too often, and never
repeats unchanged the job that ran it out of memory."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from contract.errors import (
    KernelDied,
    KernelFault,
    KernelTimeout,
    KernelUnavailable,
    LorakeetError,
    OutOfMemory,
)
from contract.rules.identity import params_digest
from orchestrator.client import KernelClient, Sink
from orchestrator.groups import task_group

#: More deaths than this within the window mean that something is wrong that a restart does not mend.
MAX_DEATHS: Final = 5
WINDOW_S: Final = 180.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0

#: Opens a kernel; `connect` with its arguments bound.
Start = Callable[[], AbstractAsyncContextManager[KernelClient]]


class RestartPolicy:
    """When to start again after a death. Pure: times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start, twice as long after each death; None to give up."""
        recent = [death for death in self._deaths if now - death < WINDOW_S]
        if len(recent) == MAX_DEATHS:
            return None
        self._deaths.append(now)
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** len(recent)))


class Supervisor:
    """A kernel that comes back. Made by `supervise`; `restarts` counts the starts after the first."""

    def __init__(self, start: Start, pause: Callable[[float], Any] = anyio.sleep) -> None:
        self._start = start
        self._pause = pause
        self._policy = RestartPolicy()
        self._kernel: KernelClient | None = None
        self._changed = anyio.Event()
        self._failure: LorakeetError | None = None
        self._too_large: set[str] = set()
        self.restarts = 0

    async def kernel(self) -> KernelClient:
        """The running kernel, waited for while it restarts. Raises what keeps it from starting."""
        while self._kernel is None:
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        return self._kernel

    async def run(self, method: str, params: Mapping[str, Any], sink: Sink | None = None) -> Any:
        """Run a job on the kernel of the moment.

        Raises what the kernel raised, KernelDied, and OutOfMemory for a job that ran a kernel out of memory
        before and comes again unchanged.
        """
        digest = params_digest(msgspec.json.encode(params))
        if digest in self._too_large:
            raise OutOfMemory(
                "This job ran the kernel out of memory before, and nothing of it has changed.",
                hint="Make it smaller: a lower batch size or resolution, or another device.",
            )
        kernel = await self.kernel()
        kills = oom_kills()
        try:
            return await kernel.run(method, params, sink)
        except OutOfMemory:
            self._too_large.add(digest)
            raise
        except KernelDied as death:
            if _was_memory(death, kills):
                self._too_large.add(digest)
            raise

    async def keep(self) -> None:
        """Start, wait for the end, start again. Returns once it has given up."""
        while self._failure is None:
            try:
                async with self._start() as kernel:
                    self._publish(kernel)
                    await kernel.died.wait()
                    # At once: who comes while the dead one is cleared away waits for the next.
                    self._kernel = None
            except (KernelDied, KernelFault, KernelTimeout):
                pass
            except LorakeetError as error:
                self._give_up(error)
                return
            if (pause_s := self._policy.died(time.monotonic())) is None:
                self._give_up(
                    KernelUnavailable(f"The kernel died more than {MAX_DEATHS} times within {WINDOW_S:g} s.")
                )
                return
            await self._pause(pause_s)
            self.restarts += 1

    def _publish(self, kernel: KernelClient | None) -> None:
        self._kernel = kernel
        self._changed.set()
        self._changed = anyio.Event()

    def _give_up(self, error: LorakeetError) -> None:
        self._failure = error
        self._publish(None)


@asynccontextmanager
async def supervise(start: Start, pause: Callable[[float], Any] = anyio.sleep) -> AsyncIterator[Supervisor]:
    """Keep a kernel running while the block lasts. `pause` waits between restarts."""
    supervisor = Supervisor(start, pause)
    async with task_group() as tasks:
        tasks.start_soon(supervisor.keep)
        yield supervisor
        tasks.cancel_scope.cancel()


def oom_kills() -> int:
    """How often Linux has killed for want of memory, here or in our own group; 0 where it does not say."""
    return _count("/proc/vmstat") + _count("/sys/fs/cgroup/memory.events")


def _was_memory(death: KernelDied, kills_before: int) -> bool:
    return death.details.get("signal") == "SIGKILL" and oom_kills() > kills_before


def _count(path: str) -> int:
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
