"""Ctrl+C and SIGTERM while a command runs."""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from types import FrameType

import anyio

from orchestrator.cli.exits import Exit


class Interruptions:
    """Takes SIGINT and SIGTERM over, for good: the first cancels `scope`, the second ends the process.

    So does time, where the command may take only `patience_s` seconds to end. `exit` is the exit code once
    one has come. Not `anyio.open_signal_receiver`: at its end it gives SIGINT back to Python, which makes a
    traceback of it, and it knows no Windows.
    """

    def __init__(self, scope: anyio.CancelScope, patience_s: float | None = None) -> None:
        self._scope = scope
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self.exit: Exit | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.exit is not None:
            # Every file is written by rename, every answer of the studio is for what is durable, and a
            # kernel leaves when its stdin ends.
            os._exit(self.exit)
        self.exit = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        self._limit(self.exit)
        # After the end of the loop there is nothing left to cancel.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._scope.cancel)

    def _limit(self, code: Exit) -> None:
        if self._patience_s is not None:
            timer = threading.Timer(self._patience_s, os._exit, [code])
            timer.daemon = True
            timer.start()
