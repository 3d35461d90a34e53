"""One worker process, seen from the host: asked one thing at a time, killed where it does not answer.

It knows no queue and no limits of time; those are the pool's.
"""

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import Process

from contract.errors import KernelUnavailable, WorkerDied
from contract.framing import LineSplitter, Skipped
from orchestrator.hosting import process
from orchestrator.workers.wire import MAX_ANSWER_BYTES, Answered, Request, answered_decoder, encoder

#: Bytes of stderr that are kept to explain a death.
STDERR_TAIL: Final = 8 * 1024
#: Seconds for the end of a process that was killed, and for the rest of what it said.
CLOSE_S: Final = 5.0
#: Names of variables that tell secrets. A decoder needs none, and may be taken over by a file.
_SECRET_WORDS: Final = ("LORAKEET", "TOKEN", "SECRET", "PASSWORD", "KEY")

_logger = logging.getLogger(__name__)


class Worker:
    """A running worker. Made by `start`; `served` counts its answers, `idle_since` is set by the pool."""

    def __init__(self, running: Process) -> None:
        self._process = running
        self._answers = LineSplitter(MAX_ANSWER_BYTES)
        self._stderr = b""
        self._stderr_done = anyio.Event()
        self._asked = 0
        self._is_killed = False
        self.served = 0
        self.idle_since = 0.0
        self.ended = anyio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._is_killed

    @property
    def is_busy(self) -> bool:
        return self.served < self._asked

    async def ask(self, task: str, arguments: msgspec.Struct) -> Answered:
        """The answer to a request. Raises WorkerDied."""
        assert self._process.stdin is not None
        line = encoder.encode(Request(id=self._asked + 1, task=task, arguments=arguments))
        self._asked += 1
        # Why nothing can be written is told where the end of stdout is met.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._process.stdin.send(line + b"\n")
        return await self.answer()

    async def answer(self) -> Answered:
        """The answer to what was asked last; may be waited for again by another one. Raises WorkerDied."""
        assert self._process.stdout is not None
        try:
            while True:
                for line in self._answers.feed(await self._process.stdout.receive()):
                    return self._understood(line)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise await self._death() from None

    async def listen(self) -> None:
        """Keep the last of stderr, to its end."""
        assert self._process.stderr is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for chunk in self._process.stderr:
                self._stderr = (self._stderr + chunk)[-STDERR_TAIL:]
                _logger.info("worker %d: %s", self.pid, chunk.decode("utf-8", "replace").rstrip())
        self._stderr_done.set()

    def broken(self) -> WorkerDied:
        """End it: it said what no worker says, so a file has taken it over. The error to raise."""
        self.kill()
        return WorkerDied("A worker process said something that is no answer, and was ended.")

    def kill(self) -> None:
        """End it now, whatever it does."""
        self._is_killed = True
        # Not where it has ended already: its number may be another process's by now.
        if self._process.returncode is None:
            process.kill(self._process)

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        with anyio.CancelScope(shield=True):
            self.kill()
            await process.ended(self._process, CLOSE_S)
            with anyio.move_on_after(CLOSE_S):
                await self._process.aclose()
        self.ended.set()

    def _understood(self, line: bytes | Skipped) -> Answered:
        """The answer in a line. Raises WorkerDied for any other."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            answered = answered_decoder.decode(b"" if isinstance(line, Skipped) else line)
            if answered.id == self._asked and (answered.result is msgspec.UNSET) != (
                answered.error is msgspec.UNSET
            ):
                self.served = self._asked
                return answered
        raise self.broken()

    async def _death(self) -> WorkerDied:
        if not await process.ended(self._process, CLOSE_S):
            self.kill()
            await process.ended(self._process, CLOSE_S)
        with anyio.move_on_after(CLOSE_S):
            await self._stderr_done.wait()
        return _died(self._process.returncode, self._stderr)


async def start(command: Sequence[str]) -> Worker:
    """A worker that was told nothing yet. Raises WorkerDied where no process can be started."""
    try:
        # A process that is not known yet could not be ended by who is canceled here.
        with anyio.CancelScope(shield=True):
            running = await process.spawn(command, _environment(os.environ))
    except KernelUnavailable:
        raise WorkerDied("A worker process cannot be started.") from None
    return Worker(running)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours without what looks like a secret, and with few arenas: each reserves 64 MiB of address space."""
    kept = {name: value for name, value in ours.items() if not _is_secret(name.upper())}
    return kept | {"MALLOC_ARENA_MAX": "2"}


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET_WORDS)


def _died(returncode: int | None, stderr: bytes) -> WorkerDied:
    killed_by = _signal_name(-returncode) if returncode is not None and returncode < 0 else None
    how = f"was killed by {killed_by}" if killed_by else f"ended with exit code {returncode}"
    details: dict[str, Any] = {
        "exit_code": returncode,
        "signal": killed_by,
        "stderr_tail": stderr.decode("utf-8", "replace"),
    }
    return WorkerDied(f"A worker process {how}.", details=details)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
