"""Ctrl+C and SIGTERM while a training runs: the first ends it with a checkpoint, the second without one."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

import anyio

from contract.errors import LorakeetError
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.hosting.client import KernelClient

#: Seconds after the second signal within which the job has to end.
NOW_S: Final = 20.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GRACEFUL: Final = "Stopping after a checkpoint. Once more stops at once, without one."
_NOW: Final = "Stopping at once."


class Stopping:
    """What somebody wants of the job of a kernel. `exit` is the exit code once a signal has come.

    The third signal ends this process; the kernel sees that and leaves.
    """

    def __init__(self, output: Output) -> None:
        self.exit: Exit | None = None
        self._output = output
        self._count = 0
        self._wishes = (anyio.Event(), anyio.Event())
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Take the signals from whoever has them, and give them back."""
        before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def obey(self, kernel: KernelClient, job_id: str) -> None:
        """Tell the kernel what is wanted, as it is wanted. For a task of its own."""
        gracefully, now = self._wishes
        await gracefully.wait()
        await self._cancel(kernel, job_id, "graceful", _GRACEFUL)
        await now.wait()
        await self._cancel(kernel, job_id, "now", _NOW)
        await anyio.sleep(NOW_S)
        kernel.kill()

    async def _cancel(self, kernel: KernelClient, job_id: str, mode: str, words: str) -> None:
        self._output.note(words, "yellow")
        # A kernel that is gone or deaf: the job says so.
        with suppress(LorakeetError):
            await kernel.cancel(job_id, mode)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.exit = self.exit or (Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED)
        if self._count == len(self._wishes):
            os._exit(self.exit)
        wish = self._wishes[self._count]
        self._count += 1
        self._loop.call_soon_threadsafe(wish.set)
