"""The session with one host: the handshake, what was granted, and the answers that the reader gives itself.

Everything here answers at once and imports nothing heavy, so it works while libraries load and jobs run.
"""

import os
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from contract import COMPATIBLE_LEVEL
from contract.errors import InvalidRequest, NotInitialized, ParseError, UnknownJob
from contract.handshake import (
    InitializeParams,
    InitializeResult,
    KernelInfo,
    Limits,
    choose_level,
    decode_limits,
)
from contract.methods.control import (
    CancelParams,
    CancelResult,
    NoParams,
    PingParams,
    Pong,
    RootsParams,
    RootsResult,
    Status,
)
from contract.methods.job import JobPeek
from contract.methods.registry import CAPABILITIES, METHODS, Method
from contract.notifications import KernelState
from contract.rules.identity import params_digest
from contract.rules.paths import to_wire
from kernel import __version__
from kernel.jobs import Job, Jobs, request_cancel
from kernel.lifetime import EXIT_HANDSHAKE, Lifetime, Watch
from kernel.loaded import LoadedModels
from kernel.roots import Roots
from kernel.writer import Writer

#: What decoding raises for JSON that cannot be taken in whole: bytes that are no UTF-8, numbers beyond a
#: double, nesting beyond the stack. The envelope leaves params raw, so it may show as late as there.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_params(method: Method, raw: bytes) -> tuple[Any, int]:
    """The params of `method`, and their version. Raises ParseError, InvalidParams and VersionUnsupported."""
    try:
        return method.payload.decode(raw)
    except UNREADABLE:
        raise ParseError("The params are not JSON in UTF-8.", where="$.params") from None


class Session:
    """What host and kernel have agreed on. `ready` is set once the handshake is done or the kernel leaves."""

    def __init__(self, lifetime: Lifetime, watch: Watch, writer: Writer) -> None:
        self.lifetime = lifetime
        self.writer = writer
        self.instance_id = uuid.uuid4().hex
        self.limits = Limits()
        self.jobs = Jobs(max_running=self.limits.max_concurrent_jobs, outcomes_kept=self.limits.outcomes_kept)
        self.roots = Roots([])
        #: The user's keys by service, in memory alone.
        self.keys: Mapping[str, str] = {}
        self.level: int | None = None
        self.state: KernelState | None = None
        self.models = LoadedModels(changed=self.announce)
        self.ready = threading.Event()
        self._announcing = threading.Lock()
        self._watch = watch
        self.deprecations_told: set[tuple[str, int]] = set()
        self._was_tried = False
        self._answers: Mapping[str, Callable[[Any], Any]] = {
            "initialize": self._initialize,
            "ping": self._ping,
            "status": self._status,
            "cancel": self._cancel,
            "roots/set": self._set_roots,
        }
        lifetime.when_leaving(self.ready.set)

    def answers(self, method: str) -> bool:
        """Whether the reader answers `method` itself."""
        return method in self._answers

    def answer(self, method: str, raw: bytes) -> Any:
        """The result of a method that the reader answers. Raises LorakeetError."""
        if method == "initialize":
            self._was_tried = True
        else:
            self.require_handshake()
        params, _ = decode_params(METHODS[method], raw)
        return self._answers[method](params)

    def require_handshake(self) -> None:
        """Raises NotInitialized before the handshake is done."""
        if self.level is None:
            raise NotInitialized("Send `initialize` first.")

    def notified(self, method: str) -> None:
        """Take a notification; those that are not known are ignored, as JSON-RPC wants it."""
        if method == "exit":
            self.host_left("exit")

    def host_left(self, how: str) -> None:
        """Leave, because the host asked or went away."""
        code = EXIT_HANDSHAKE if self._was_tried and self.level is None else 0
        self.lifetime.leave(how, code)

    def admit(self, method: str, raw: bytes, peek: JobPeek) -> Job:
        """Register a job in the order of the wire; an ended job comes back if this one repeats it."""
        job = Job(
            job_id=peek.job_id,
            attempt=peek.attempt,
            method=method,
            digest=params_digest(raw),
            roots=self.roots.afresh(),
            writer=self.writer,
            progress_hz=self.limits.progress_hz,
        )
        return self.jobs.admit(job)

    def announce(self, found: KernelState | None = None) -> None:
        """Send what was found, or else the last state, with the models of now, if it says something new."""
        with self._announcing:
            state = found or self.state
            if state is None:
                return
            state = msgspec.structs.replace(state, loaded=self.models.names)
            if state != self.state:
                self.state = state
                self.writer.state(state)

    def _initialize(self, params: InitializeParams) -> InitializeResult:
        if self.level is not None:
            raise InvalidRequest("`initialize` is sent only once.")
        level = choose_level(params.contract.levels)
        self.roots = Roots(params.roots)
        self.limits = decode_limits(params.limits)
        self.keys = params.keys
        if params.parent_pid is not None:
            self._watch.also(params.parent_pid)
        self.level = level
        return InitializeResult(
            level=level,
            compatible=COMPATIBLE_LEVEL,
            kernel=KernelInfo(
                name="lorakeet-kernel", version=__version__, instance_id=self.instance_id, pid=os.getpid()
            ),
            methods={
                name: method.info() for name, method in METHODS.items() if method.kind != "notification"
            },
            capabilities=dict(CAPABILITIES),
            limits=self.limits,
        )

    def _ping(self, params: PingParams) -> Pong:
        return Pong(instance_id=self.instance_id, uptime_s=self._uptime_s(), echo=params.echo)

    def _status(self, params: NoParams) -> Status:
        return Status(
            instance_id=self.instance_id,
            uptime_s=self._uptime_s(),
            accepting_jobs=self.jobs.accepting and not self.lifetime.leaving,
            jobs=[job.running() for job in self.jobs.running()],
            state=self.state,
        )

    def _set_roots(self, params: RootsParams) -> RootsResult:
        # Not on the loop: a job that was sent before keeps the old roots, one sent after has the new.
        self.roots = Roots(params.roots)
        return RootsResult(roots=[to_wire(root) for root in self.roots.paths])

    def _cancel(self, params: CancelParams) -> CancelResult:
        try:
            job = self.jobs.get(params.job_id)
        except UnknownJob:
            return CancelResult(state="unknown_job")
        if job.ended:
            return CancelResult(state="already_finished")
        request_cancel(job, params.mode)
        return CancelResult(state="canceling")

    def _uptime_s(self) -> float:
        return round(self.lifetime.uptime_s, 3)
