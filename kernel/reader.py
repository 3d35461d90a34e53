"""The one thread that reads the wire: answers what must never wait, registers jobs, hands on the rest."""

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec

from contract.envelope import Failure, Id, Malformed, Request, Success, decode_request, encode
from contract.errors import LineTooLong, MethodNotFound, ParseError, ShuttingDown
from contract.framing import LineSplitter, Skipped
from contract.methods.job import JobPeek
from contract.methods.registry import METHODS
from kernel.jobs import Job
from kernel.lifetime import EXIT_BUG
from kernel.session import UNREADABLE, Session
from kernel.trace import report, wire_error

_CHUNK: Final = 64 * 1024
#: Seconds between two looks whether a host that reads no answers is still there at all.
_PATIENCE_S: Final = 0.5

#: Takes a request that the reader does not answer itself, the job it was registered as, and what to call
#: once its answer is written. Raises ShuttingDown.
Handover = Callable[[Request, Job | None, Callable[[], None]], None]


class Reader:
    """Owns the reading end. Requests whose answers are not yet written are counted: a host that floods and
    reads nothing is not read from any further, so that memory stays bounded."""

    def __init__(self, fd: int, session: Session, hand_over: Handover) -> None:
        self._fd = fd
        self._session = session
        self._hand_over = hand_over
        self._splitter = LineSplitter(session.limits.max_message_bytes)
        self._open_requests = threading.BoundedSemaphore(session.limits.max_pending_requests)
        self._peek = msgspec.json.Decoder(JobPeek)

    def start(self) -> None:
        threading.Thread(target=self._run, name="reader", daemon=True).start()

    def _run(self) -> None:
        try:
            while chunk := os.read(self._fd, _CHUNK):
                for line in self._splitter.feed(chunk):
                    self._take(line)
            self._session.host_left("stdin ended")
        except OSError:
            self._session.host_left("stdin failed")
        except BaseException as error:  # noqa: BLE001  the top of a thread: a kernel that hears nothing must not stay
            report(error)
            self._session.lifetime.leave("the reader has a bug", EXIT_BUG)

    def _take(self, line: bytes | Skipped) -> None:
        """Answer one line, or see to it that it is answered; a notification gives its room back at once."""
        self._wait_for_room()
        request_id: Id = None
        try:
            if isinstance(line, Skipped):
                limit = self._splitter.max_bytes
                raise LineTooLong(f"The line is longer than {limit} bytes.", details={"limit": limit})
            request = decode_request(line)
            if request.id is msgspec.UNSET:
                self._open_requests.release()
                self._session.notified(request.method)
                return
            request_id = request.id
            self._handle(request, request_id)
        except Malformed as malformed:
            self._reply(Failure(id=malformed.id, error=malformed.error.to_wire()))
        except UNREADABLE:
            self._reply(Failure(id=request_id, error=ParseError("The line is not JSON in UTF-8.").to_wire()))
        except BaseException as error:  # noqa: BLE001  the boundary: whatever happened, the request is answered
            self._reply(Failure(id=request_id, error=wire_error(error)))

    def _handle(self, request: Request, request_id: Id) -> None:
        """Answer `request` or hand it over. Raises LorakeetError."""
        session, raw = self._session, bytes(request.params)
        if session.answers(request.method):
            result = session.answer(request.method, raw)
            self._reply(Success(id=request_id, result=result))
            if request.method == "initialize":
                self._splitter.max_bytes = session.limits.max_message_bytes
                session.ready.set()
            return
        session.require_handshake()
        method = METHODS.get(request.method)
        if method is None or method.kind == "notification":
            raise MethodNotFound(f"There is no method `{request.method}`.", where="$.method")
        job = self._register(request, raw) if method.kind == "job" else None
        if job is not None and job.ended:
            self._reply(_replay(job, request_id))
            return
        try:
            self._hand_over(request, job, self._open_requests.release)
        except ShuttingDown:
            if job is not None:
                session.jobs.forget(job)
            raise

    def _register(self, request: Request, raw: bytes) -> Job | None:
        try:
            peek = self._peek.decode(raw)
        except msgspec.ValidationError:
            # The params are wrong; their own decoding says all that is wrong with them.
            return None
        return self._session.admit(request.method, raw, peek)

    def _reply(self, answer: Success | Failure) -> None:
        self._session.writer.reply(encode(answer), self._open_requests.release)

    def _wait_for_room(self) -> None:
        while not self._open_requests.acquire(timeout=_PATIENCE_S):
            if self._session.lifetime.leaving or _hung_up(self._fd):
                self._session.host_left("the host is gone and has read nothing")


def _replay(job: Job, request_id: Id) -> Success | Failure:
    if job.error is not None:
        data = msgspec.structs.replace(job.error.data, replayed=True)
        return Failure(id=request_id, error=msgspec.structs.replace(job.error, data=data))
    result: Any = msgspec.structs.replace(job.result, replayed=True)
    return Success(id=request_id, result=result)


def _hung_up(fd: int) -> bool:
    """Whether nobody holds the other end any more, though bytes may still wait. Unknown on Windows: False."""
    if sys.platform == "win32":
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
