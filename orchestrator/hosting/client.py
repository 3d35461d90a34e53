"""The host side of the contract: one client drives one kernel process for as long as that lives.

Both pipes are always drained. What a job says goes to the sink that the caller gave, at once; nothing is
stored here, so a slow consumer can block nobody. When the process or its stdout ends, every pending call
fails with KernelDied and the last of stderr. Restarting is the lanes' business.
"""

import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import Process

from contract import SUPPORTED_LEVELS
from contract.envelope import MAX_MESSAGE_BYTES, Incoming, Malformed, decode_incoming
from contract.errors import (
    KernelDied,
    KernelFault,
    KernelTimeout,
    LineTooLong,
    LorakeetError,
    from_wire,
)
from contract.framing import LineSplitter, Skipped
from contract.handshake import InitializeResult, LimitsWanted
from contract.methods.control import CancelResult
from contract.methods.registry import METHODS
from contract.notifications import NOTIFICATIONS, KernelState
from orchestrator import __version__
from orchestrator.groups import task_group
from orchestrator.hosting import process

#: Seconds a kernel may take to answer `initialize`: a cold disk and a virus scanner, not a healthy machine.
START_S: Final = 60.0
#: Seconds a kernel may take to answer anything that is no job.
CALL_S: Final = 30.0
#: Seconds a canceled job may take to end before its kernel is killed: a checkpoint has to be written.
CANCEL_S: Final = 60.0
#: Seconds a kernel may leave a line unread before it counts as deaf; its reader waits for nothing.
WRITE_S: Final = 10.0
#: Seconds between the steps of closing: stdin closed, terminated, killed.
CLOSE_S: Final = 2.0
#: Lines of noise before the handshake, such as a driver's banner, after which it is no kernel that speaks.
MAX_BANNER: Final = 100
#: Bytes of stderr that are kept to explain a death.
STDERR_TAIL: Final = 8 * 1024

#: Takes every notification of one job, in order, as the Struct of its method's name. Must not block.
Sink = Callable[[str, Any], None]
#: Takes lines of the kernel's stderr.
StderrSink = Callable[[bytes], None]
#: Is told the number of a process that was just started.
StartSink = Callable[[int], Awaitable[None]]

_encoder = msgspec.json.Encoder()


class _Pending:
    """A call that waits for its answer; `woken` also when its sink has failed before."""

    def __init__(self, result: Any, sink: Sink | None = None) -> None:
        self.result_type = result
        self.sink = sink
        self.woken = anyio.Event()
        self.done = anyio.Event()
        self.sink_error: Exception | None = None
        self._result: Any = None
        self._error: LorakeetError | None = None

    def settle(self, *, result: Any = None, error: LorakeetError | None = None) -> None:
        if not self.done.is_set():
            self._result, self._error = result, error
            self.done.set()
            self.woken.set()

    def pour(self, method: str, params: Any) -> None:
        """Into the sink, as long as that takes it; whatever it raises belongs to the caller of `run`."""
        try:
            if self.sink is not None:
                self.sink(method, params)
        except Exception as error:  # noqa: BLE001  kept for the caller
            self.sink, self.sink_error = None, error
            self.woken.set()

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


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
        self._is_new = True
        self._dying = False
        self._death: KernelDied | None = None
        self._max_bytes = MAX_MESSAGE_BYTES
        self.died = anyio.Event()
        self._grace_s = CLOSE_S
        self.state: KernelState | None = None
        self.stray = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = CALL_S
    ) -> Any:
        """The answer of a method that is no job, as its result Struct.

        Raises what the kernel raised, KernelDied, KernelFault and KernelTimeout.
        """
        pending = _Pending(METHODS[method].result)
        with anyio.move_on_after(timeout_s):
            async with self._asked(method, params or {}, pending):
                await pending.done.wait()
            return pending.outcome()
        raise KernelTimeout(f"The kernel did not answer `{method}` within {timeout_s:g} s.")

    async def run(self, method: str, params: Mapping[str, Any], sink: Sink | None = None) -> Any:
        """Run a job to its end; its outcome as its result Struct. What it says meanwhile goes to `sink`.

        Raises what the kernel raised, KernelDied, KernelFault, and what `sink` raised. If this is itself
        canceled, or `sink` fails, so is the job, and its kernel is killed if it does not end within CANCEL_S.
        """
        job_id = str(params["job_id"])
        pending = _Pending(METHODS[method].result, sink)
        # A job that is sent again while it runs is refused, and must not take the running one's sink away.
        self._jobs.setdefault(job_id, pending)
        try:
            async with self._asked(method, params, pending):
                try:
                    await pending.woken.wait()
                finally:
                    if not pending.done.is_set():
                        with anyio.CancelScope(shield=True):
                            await self._end(job_id, pending)
        finally:
            if self._jobs.get(job_id) is pending:
                del self._jobs[job_id]
        if pending.sink_error is not None:
            raise pending.sink_error
        return pending.outcome()

    async def cancel(self, job_id: str, mode: str = "graceful") -> CancelResult:
        """Ask a job to stop; it still answers."""
        result: CancelResult = await self.call("cancel", {"job_id": job_id, "mode": mode})
        return result

    def kill(self) -> None:
        """End the kernel and all it started, now."""
        process.kill(self._process)

    async def _end(self, job_id: str, pending: _Pending) -> None:
        """Bring a job to its end, or its kernel."""
        with anyio.move_on_after(CANCEL_S):
            try:
                if (await self.cancel(job_id)).state == "unknown_job":
                    return
            except LorakeetError:
                self.kill()
            await pending.done.wait()
            return
        self.kill()

    @asynccontextmanager
    async def _asked(self, method: str, params: Mapping[str, Any], pending: _Pending) -> AsyncIterator[None]:
        """Send a request; its answer counts while the block lasts. Raises KernelDied and LineTooLong."""
        if self._death is not None:
            raise self._death
        self._last_id += 1
        number = self._last_id
        line = _encoder.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        if len(line) > self._max_bytes:
            raise LineTooLong(
                f"The request is {len(line)} bytes long; this kernel takes {self._max_bytes}.",
                hint="Send long lists as a manifest.",
            )
        self._pending[number] = pending
        try:
            await self._write(line)
            yield
        finally:
            self._pending.pop(number, None)

    async def _write(self, line: bytes, within_s: float | None = None) -> None:
        """Send one line. The reading side sees the same end and settles the calls with the reason."""
        assert self._process.stdin is not None
        async with self._sending:
            # A line begun is a line finished: half a line would spoil the next one. A kernel that takes
            # nothing for so long reads no more, and never will.
            with anyio.move_on_after(within_s or WRITE_S, shield=True) as patience, _gone_is_fine():
                await self._process.stdin.send(line + b"\n")
        if patience.cancelled_caught:
            self.kill()

    async def _notify(self, method: str) -> None:
        await self._write(_encoder.encode({"jsonrpc": "2.0", "method": method, "params": {}}), CLOSE_S)

    async def _drain_stdout(self, max_bytes: int) -> None:
        assert self._process.stdout is not None
        splitter = LineSplitter(max_bytes)
        with _gone_is_fine():
            async for chunk in self._process.stdout:
                for line in splitter.feed(chunk):
                    self._take(line)
        await self._die()

    async def _drain_stderr(self) -> None:
        assert self._process.stderr is not None
        with _gone_is_fine():
            async for chunk in self._process.stderr:
                self._keep_stderr(chunk)
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
        """One line of stdout. What is no message is noise; a message that breaks the contract is the end."""
        if isinstance(line, Skipped):
            self._break("a line longer than was agreed")
            return
        try:
            message = decode_incoming(line)
        except Malformed:
            self.stray += 1
            if self._is_new and self.stray > MAX_BANNER:
                self._break("anything but the contract; it is no kernel")
            return
        try:
            if isinstance(message.method, str):
                self._notified(message.method, message)
            else:
                self._answered(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._break(f"a message of another shape than its own: {message.method or 'a response'}")

    def _answered(self, message: Incoming) -> None:
        if not isinstance(message.id, int):
            self._break("that it could not read what was sent")
        elif (pending := self._pending.get(message.id)) is None:
            return
        elif not isinstance(message.error, msgspec.UnsetType):
            pending.settle(error=from_wire(message.error))
        elif isinstance(message.result, msgspec.Raw):
            pending.settle(result=msgspec.json.decode(message.result, type=pending.result_type))
        else:
            self._break("a response with neither result nor error")

    def _notified(self, method: str, message: Incoming) -> None:
        known = NOTIFICATIONS.get(method)
        if method in METHODS:
            self._break("what was said to it; it is no kernel")
        if known is None or not isinstance(message.params, msgspec.Raw):
            return
        params = msgspec.json.decode(message.params, type=known[0])
        if isinstance(params, KernelState):
            self.state = params
        elif job := self._jobs.get(getattr(params, "job_id", None) or ""):
            job.pour(method, params)

    def _break(self, said: str) -> None:
        """The kernel broke the contract: what it says counts no more, so it is ended."""
        fault = KernelFault(f"The kernel broke the contract: it said {said}.")
        for pending in [*self._pending.values(), *self._jobs.values()]:
            pending.settle(error=fault)
        self.kill()

    async def _die(self) -> None:
        """Settle everything that waits: this kernel answers no more."""
        if self._dying:
            return
        self._dying = True
        if not await process.ended(self._process, CLOSE_S):
            self.kill()
            await process.ended(self._process, CLOSE_S)
        with anyio.move_on_after(CLOSE_S):
            await self._stderr_done.wait()
        self._death = _death(
            self._process.returncode, b"".join(self._stderr)[-STDERR_TAIL:], began=not self._is_new
        )
        for pending in [*self._pending.values(), *self._jobs.values()]:
            pending.settle(error=self._death)
        self._pending.clear()
        self.died.set()

    async def _initialize(self, roots: Sequence[str], limits: LimitsWanted, keys: Mapping[str, str]) -> None:
        params = {
            "contract": {"levels": list(SUPPORTED_LEVELS)},
            "client": {"name": "lorakeet", "version": __version__},
            "parent_pid": os.getpid(),
            "roots": list(roots),
            "limits": msgspec.to_builtins(limits),
        }
        # A kernel of before there were keys refuses the field.
        given = {"keys": dict(keys)} if keys else {}
        self.info = await self.call("initialize", params | given, timeout_s=START_S)
        self._is_new = False
        self._max_bytes = self.info.limits.max_message_bytes
        self._grace_s = self.info.limits.grace_s
        await self._notify("initialized")

    async def _close(self) -> None:
        """Ask to leave, then insist, then kill; each wait is bounded. Running jobs get the kernel's grace."""
        patience_s = self._grace_s + CLOSE_S if self._jobs else CLOSE_S
        with anyio.move_on_after(CLOSE_S):
            await self._notify("exit")
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        if not await process.ended(self._process, patience_s):
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
    keys: Mapping[str, str] | None = None,
    on_start: StartSink | None = None,
) -> AsyncIterator[KernelClient]:
    """Start a kernel, shake hands, and end it with all it started when the block is left.

    `roots` are absolute paths as they travel. `keys` are the user's keys by service; they go through the pipe
    alone, where no other process sees them. `on_start` is told the process before anything is said to it.
    Raises KernelUnavailable, KernelDied, KernelFault, KernelTimeout, LevelUnsupported, and what `on_start`
    raised.
    """
    limits = limits or LimitsWanted()
    # A process that is not known yet could not be ended by who is canceled here.
    with anyio.CancelScope(shield=True):
        running = await process.spawn(command, env)
    client = KernelClient(running, on_stderr)
    async with task_group() as tasks:
        # Shielded: while the block is being canceled, its jobs still have to end and answer.
        serving = [anyio.CancelScope(shield=True) for _ in range(3)]
        tasks.start_soon(_within, serving[0], client._drain_stdout, limits.max_message_bytes)
        tasks.start_soon(_within, serving[1], client._drain_stderr)
        tasks.start_soon(_within, serving[2], client._watch)
        try:
            if on_start is not None:
                await on_start(client.pid)
            await client._initialize(roots, limits, keys or {})
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


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """What the other end of a broken pipe means is settled where its death is noticed."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        yield


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _death(returncode: int | None, stderr: bytes, *, began: bool) -> KernelDied:
    killed_by = _signal_name(-returncode) if returncode is not None and returncode < 0 else None
    how = f"was killed by {killed_by}" if killed_by else f"ended with exit code {returncode}"
    return KernelDied(
        f"The kernel {how}.",
        details={
            "exit_code": returncode,
            "signal": killed_by,
            "stderr_tail": stderr.decode("utf-8", "replace"),
        },
        hint="What was finished is whole; the same again goes on from there." if began else None,
    )
