"""Ctrl+C and SIGTERM while a command runs."""

import asyncio
import os
import signal
from contextlib import suppress
from types import FrameType

import anyio

from orchestrator.cli.exits import Exit


class Interruptions:
    """Takes SIGINT and SIGTERM over, for good: the first cancels `scope`, the second ends the process.

    `exit` is the exit code once one has come. Not `anyio.open_signal_receiver`: at its end it gives SIGINT
    back to Python, which makes a traceback of it, and it knows no Windows.
    """

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        self.exit: Exit | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.exit is not None:
            # Every caption is written by rename, and the kernel leaves when its stdin ends.
            os._exit(self.exit)
        self.exit = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        # After the end of the loop there is nothing left to cancel.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._scope.cancel)
