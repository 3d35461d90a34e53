"""The host side of the contract: one client drives one kernel process for as long as that lives.

Both pipes are always drained. What a job says goes to the sink that the caller gave, at once; nothing is
stored here, so a slow consumer can block nobody. When the process or its stdout ends, every pending call
fails with KernelDied and the last of stderr. Restarting is the supervisor's business.
"""

import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import Process

from contract import SUPPORTED_LEVELS
from contract.envelope import Incoming, Malformed, decode_incoming
from contract.errors import KernelDied, KernelTimeout, LorakeetError, from_wire
from contract.framing import LineSplitter, Skipped
from contract.handshake import InitializeResult, LimitsWanted
from contract.methods.control import CancelResult
from contract.methods.registry import METHODS
from contract.notifications import NOTIFICATIONS, KernelState
from orchestrator import __version__, process
from orchestrator.groups import task_group

#: Seconds a kernel may take to answer `initialize`: a cold disk and a virus scanner, not a healthy machine.
START_S: Final = 60.0
#: Seconds a kernel may take to answer anything that is no job.
CALL_S: Final = 30.0
#: Seconds a canceled job may take to end before its kernel is killed: a checkpoint has to be written.
CANCEL_S: Final = 60.0
#: Seconds between the steps of closing: stdin closed, terminated, killed.
CLOSE_S: Final = 2.0
#: Bytes of stderr that are kept to explain a death.
STDERR_TAIL: Final = 8 * 1024

#: Takes every notification of one job, in order, as the Struct of its method's name. Must not block.
Sink = Callable[[str, Any], None]
#: Takes lines of the kernel's stderr.
StderrSink = Callable[[bytes], None]

_encoder = msgspec.json.Encoder()


class _Pending:
    """A call that waits for its answer."""

    def __init__(self, result: Any, sink: Sink | None = None) -> None:
        self.result_type = result
        self.sink = sink
        self.done = anyio.Event()
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self, *, result: Any = None, error: Exception | None = None) -> None:
        if not self.done.is_set():
            self.result, self.error = result, error
            self.done.set()

    async def outcome(self) -> Any:
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return self.result


class KernelClient:
    """A running kernel. Made by `connect`.

    `info` is the answer to `initialize`, `state` the last `kernel/state`, `stray` the number of lines on its
    stdout that were none of the contract's.
    """

    info: InitializeResult

    def __init__(self, running: Process, on_stderr: StderrSink | None = None) -> None:
        self._process = running
        self._on_stderr = on_stderr
        self._pending: dict[int, _Pending] = {}
        self._jobs: dict[str, _Pending] = {}
        self._last_id = 0
        self._sending = anyio.Lock()
        self._stderr: deque[bytes] = deque()
        self._stderr_done = anyio.Event()
        self._death: KernelDied | None = None
        self.died = anyio.Event()
        self.state: KernelState | None = None
        self.stray = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = CALL_S
    ) -> Any:
        """The answer of a method that is no job, as its result Struct.

        Raises what the kernel raised, KernelDied, and KernelTimeout.
        """
        pending = _Pending(METHODS[method].result)
        with anyio.move_on_after(timeout_s):
            await self._send(method, params or {}, pending)
            return await pending.outcome()
        raise KernelTimeout(f"The kernel did not answer `{method}` within {timeout_s:g} s.")

    async def run(self, method: str, params: Mapping[str, Any], sink: Sink | None = None) -> Any:
        """Run a job to its end; its outcome as its result Struct. What it says meanwhile goes to `sink`.

        Raises what the kernel raised, KernelDied, and what `sink` raised. If this is itself canceled, so is
        the job, and its kernel is killed if it does not end within CANCEL_S.
        """
        job_id = str(params["job_id"])
        pending = _Pending(METHODS[method].result, sink)
        # A job that is sent again while it runs is refused, and must not take the running one's sink away.
        self._jobs.setdefault(job_id, pending)
        try:
            await self._send(method, params, pending)
            return await pending.outcome()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._end(job_id, pending)
            raise
        finally:
            if self._jobs.get(job_id) is pending:
                del self._jobs[job_id]

    async def cancel(self, job_id: str, mode: str = "graceful") -> CancelResult:
        """Ask a job to stop; it still answers."""
        result: CancelResult = await self.call("cancel", {"job_id": job_id, "mode": mode})
        return result

    def kill(self) -> None:
        """End the kernel and all it started, now."""
        process.kill(self._process)

    async def _end(self, job_id: str, pending: _Pending) -> None:
        with anyio.move_on_after(CANCEL_S):
            try:
                await self.cancel(job_id)
            except LorakeetError:
                self.kill()
            await pending.done.wait()
            return
        self.kill()

    async def _send(self, method: str, params: Mapping[str, Any], pending: _Pending) -> None:
        if self._death is not None:
            raise self._death
        self._last_id += 1
        number = self._last_id
        self._pending[number] = pending
        line = _encoder.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        try:
            await self._write(line)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            # The reading side sees the same end and settles the call with the reason.
            return

    async def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        async with self._sending:
            # A line begun is a line finished: half a line would spoil the next one.
            with anyio.CancelScope(shield=True):
                await self._process.stdin.send(line + b"\n")

    async def _notify(self, method: str) -> None:
        try:
            await self._write(_encoder.encode({"jsonrpc": "2.0", "method": method, "params": {}}))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def _drain_stdout(self, max_bytes: int) -> None:
        assert self._process.stdout is not None
        splitter = LineSplitter(max_bytes)
        try:
            async for chunk in self._process.stdout:
                for line in splitter.feed(chunk):
                    self._take(line)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        await self._die()

    async def _drain_stderr(self) -> None:
        assert self._process.stderr is not None
        try:
            async for chunk in self._process.stderr:
                self._keep_stderr(chunk)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        self._stderr_done.set()

    async def _watch(self) -> None:
        """A grandchild may hold stdout open after the kernel has died."""
        while not await process.ended(self._process, timeout_s=3600):
            pass
        # What is still in the pipe is read first.
        await anyio.sleep(CLOSE_S)
        await self._die()

    def _keep_stderr(self, chunk: bytes) -> None:
        self._stderr.append(chunk)
        while sum(map(len, self._stderr)) - len(self._stderr[0]) >= STDERR_TAIL:
            self._stderr.popleft()
        if self._on_stderr is not None:
            self._on_stderr(chunk)

    def _take(self, line: bytes | Skipped) -> None:
        try:
            message = None if isinstance(line, Skipped) else decode_incoming(line)
        except Malformed:
            message = None
        if message is None:
            self.stray += 1
        elif isinstance(message.method, str):
            self._notified(message.method, message)
        elif isinstance(message.id, int):
            self._answered(message.id, message)

    def _answered(self, number: int, message: Incoming) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:
            return
        if not isinstance(message.error, msgspec.UnsetType):
            pending.settle(error=from_wire(message.error))
        elif isinstance(message.result, msgspec.Raw):
            pending.settle(result=msgspec.json.decode(message.result, type=pending.result_type))

    def _notified(self, method: str, message: Incoming) -> None:
        known = NOTIFICATIONS.get(method)
        if known is None or not isinstance(message.params, msgspec.Raw):
            return
        params = msgspec.json.decode(message.params, type=known[0])
        if isinstance(params, KernelState):
            self.state = params
        elif (
            job := self._jobs.get(getattr(params, "job_id", None) or "")
        ) is not None and job.sink is not None:
            self._pour(job, method, params)

    def _pour(self, job: _Pending, method: str, params: Any) -> None:
        try:
            if job.sink is not None:
                job.sink(method, params)
        except Exception as error:  # noqa: BLE001  whatever the sink raises belongs to the caller of `run`
            job.sink = None
            job.settle(error=error)

    async def _die(self) -> None:
        """Settle everything that waits: this kernel answers no more."""
        if self._death is not None:
            return
        if not await process.ended(self._process, CLOSE_S):
            self.kill()
            await process.ended(self._process, CLOSE_S)
        with anyio.move_on_after(CLOSE_S):
            await self._stderr_done.wait()
        self._death = _death(self._process.returncode, b"".join(self._stderr)[-STDERR_TAIL:])
        for pending in [*self._pending.values(), *self._jobs.values()]:
            pending.settle(error=self._death)
        self._pending.clear()
        self.died.set()

    async def _initialize(self, roots: Sequence[str], limits: LimitsWanted) -> None:
        self.info = await self.call(
            "initialize",
            {
                "contract": {"levels": list(SUPPORTED_LEVELS)},
                "client": {"name": "lorakeet", "version": __version__},
                "parent_pid": os.getpid(),
                "roots": list(roots),
                "limits": msgspec.to_builtins(limits),
            },
            timeout_s=START_S,
        )
        await self._notify("initialized")

    async def _close(self) -> None:
        """Ask to leave, then insist, then kill; each wait is bounded."""
        await self._notify("exit")
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        if not await process.ended(self._process, CLOSE_S):
            process.terminate(self._process)
            await process.ended(self._process, CLOSE_S)
        self.kill()
        await process.ended(self._process, CLOSE_S)


@asynccontextmanager
async def connect(
    command: Sequence[str],
    *,
    roots: Sequence[str] = (),
    limits: LimitsWanted | None = None,
    env: Mapping[str, str] | None = None,
    on_stderr: StderrSink | None = None,
) -> AsyncIterator[KernelClient]:
    """Start a kernel, shake hands, and end it with all it started when the block is left.

    `roots` are absolute paths as they travel. Raises KernelUnavailable, KernelDied, KernelTimeout and
    LevelUnsupported.
    """
    limits = limits or LimitsWanted()
    running = await process.spawn(command, env)
    client = KernelClient(running, on_stderr)
    async with task_group() as tasks:
        # Shielded: while the block is being canceled, its jobs still have to end and answer.
        serving = [anyio.CancelScope(shield=True) for _ in range(3)]
        tasks.start_soon(_within, serving[0], client._drain_stdout, limits.max_message_bytes)
        tasks.start_soon(_within, serving[1], client._drain_stderr)
        tasks.start_soon(_within, serving[2], client._watch)
        try:
            await client._initialize(roots, limits)
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                await client._close()
            for scope in serving:
                scope.cancel()
            with anyio.CancelScope(shield=True):
                await running.aclose()


async def _within(scope: anyio.CancelScope, serve: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    with scope:
        await serve(*arguments)


def _death(returncode: int | None, stderr: bytes) -> KernelDied:
    killed_by = signal.Signals(-returncode).name if returncode is not None and returncode < 0 else None
    how = f"was killed by {killed_by}" if killed_by else f"ended with exit code {returncode}"
    return KernelDied(
        f"The kernel {how}.",
        details={
            "exit_code": returncode,
            "signal": killed_by,
            "stderr_tail": stderr.decode("utf-8", "replace"),
        },
        hint="What was finished is whole; run it again to go on.",
    )
