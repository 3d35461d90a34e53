"""jsonrpcserver's one home: which handler a request goes to, and what becomes of what the handler does.

jsonrpcserver picks the method and calls it. Decoding, validation, errors and cancellation are ours: it would
ignore type hints, put the text of exceptions on the wire and leave a canceled call without an answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, cast

import anyio
import anyio.to_thread
import msgspec
from jsonrpcserver import Error, Result, async_dispatch
from jsonrpcserver import Success as Succeeded

from contract.envelope import Failure, Id, Request, encode
from contract.errors import InvalidParams, JobCanceled, LorakeetError, ShuttingDown, WireError
from contract.methods.registry import METHODS, Method
from kernel.jobs import Job
from kernel.session import Session, decode_params
from kernel.trace import wire_error


class Call(NamedTuple):
    """The context of one request."""

    session: Session
    job: Job | None


#: A handler of a query or control method; runs on the loop and must not block it.
Handler = Callable[[Any, Session], Awaitable[Any]]
#: A handler of a job; runs on a thread of its own.
JobHandler = Callable[[Any, Job, Session], Any]
#: What jsonrpcserver calls: context and raw params in, a Result out.
Method_ = Callable[[Call, bytes], Awaitable[Result]]


class Dispatcher:
    """Answers requests with the handlers it was given. Both tables go by method name."""

    def __init__(
        self, session: Session, handlers: Mapping[str, Handler], job_handlers: Mapping[str, JobHandler]
    ) -> None:
        self._session = session
        self._methods: dict[str, Method_] = {
            name: as_method(METHODS[name], handler) for name, handler in handlers.items()
        }
        self._methods |= {name: as_job(METHODS[name], handler) for name, handler in job_handlers.items()}

    async def answer(self, request: Request, job: Job | None) -> bytes:
        """The line that answers `request`."""
        envelope = {
            "jsonrpc": "2.0",
            "method": request.method,
            "params": [bytes(request.params)],
            "id": request.id,
        }
        try:
            answer: Any = await async_dispatch(
                envelope,
                self._methods,
                context=Call(self._session, job),
                deserializer=_as_is,
                validator=_as_is,
                # Typed for text by the library, passed through untouched.
                serializer=cast("Any", encode),
            )
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001  the boundary: an answer that cannot be encoded is a bug of ours
            return _failure(request.id, wire_error(error))
        return bytes(answer)

    def give_up(self, request: Request, job: Job | None) -> bytes:
        """The line that answers `request` when the grace is over before its handler is done."""
        late = ShuttingDown("The kernel is leaving.").to_wire()
        return _failure(request.id, late if job is None or job.error is None else job.error)


def as_method(method: Method, handler: Handler) -> Method_:
    """`handler` of a Struct as jsonrpcserver wants it."""

    async def call(context: Call, raw: bytes) -> Result:
        try:
            params, _ = decode_params(method, raw)
            return Succeeded(await handler(params, context.session))
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001  the boundary where exceptions become wire errors
            return _error(wire_error(error))

    return call


def as_job(method: Method, handler: JobHandler) -> Method_:
    """`handler` of a job: on a thread, its outcome recorded before it is answered."""

    async def call(context: Call, raw: bytes) -> Result:
        session, job = context
        try:
            params, version = decode_params(method, raw)
            if job is None:
                # Of a key that comes twice, the one decoder takes the last, the other looks at both.
                raise InvalidParams("`job_id` or `attempt` comes twice, once wrong.", where="$.params")
        except LorakeetError as error:
            if job is not None:
                session.jobs.forget(job)
                job.end(error=error.to_wire(job_id=job.job_id))
            return _error(wire_error(error))
        if version < method.payload.version:
            _deprecate(session, method, version)
        return await _run(method, handler, params, version, context)

    return call


async def _run(method: Method, handler: JobHandler, params: Any, version: int, context: Call) -> Result:
    session, job = context
    assert job is not None
    try:
        outcome = await anyio.to_thread.run_sync(handler, params, job, session, abandon_on_cancel=True)
        result = method.payload.result_for(version, outcome)
    except anyio.get_cancelled_exc_class():
        job.end(error=JobCanceled("The kernel is leaving.").to_wire(job_id=job.job_id))
        raise
    # Not only Exception: a panic in a library of Rust derives from BaseException, and somebody's sys.exit()
    # ends neither this process nor the wait of the host.
    except BaseException as error:  # noqa: BLE001  the boundary where exceptions become wire errors
        job.end(error=wire_error(error, job_id=job.job_id))
        return _error(job.error)
    job.end(result=result)
    return Succeeded(result)


def _deprecate(session: Session, method: Method, version: int) -> None:
    told = session.deprecations_told
    if (method.name, version) not in told:
        told.add((method.name, version))
        session.writer.log(
            "warning",
            "lorakeet.contract",
            f"Payload version {version} of `{method.name}` is deprecated; send {method.payload.version}.",
        )


def _error(wire: WireError | None) -> Result:
    assert wire is not None
    return Error(code=wire.code, message=wire.message, data=wire.data)


def _failure(request_id: Id | msgspec.UnsetType, wire: WireError) -> bytes:
    return encode(Failure(id=None if request_id is msgspec.UNSET else request_id, error=wire))


def _as_is(value: Any) -> Any:
    return value
