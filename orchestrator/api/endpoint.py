"""One operation as an HTTP endpoint: checks what came, calls the handler, sends what it answers."""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from contract.errors import InternalError, LorakeetError
from orchestrator.api import idempotency
from orchestrator.api.calls import Answer, Call, FileAnswer, StreamAnswer, TextAnswer, matches
from orchestrator.api.file_response import FileResponse
from orchestrator.api.metrics import OPERATION
from orchestrator.api.problems import problem_response
from orchestrator.api.registry import PREFIX, Operation
from orchestrator.api.requests import arguments_of, raw_body
from orchestrator.api.stream_response import StreamResponse

if TYPE_CHECKING:
    from orchestrator.studio import Studio

Endpoint = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("lorakeet.api")
_JSON: Final = "application/json"
_encode = msgspec.json.Encoder().encode


def endpoint(operation: Operation, studio: "Studio") -> Endpoint:
    """What the router calls for `operation`."""

    async def answer(request: Request) -> Response:
        request.scope[OPERATION] = operation.name
        try:
            return await _answer(operation, studio, request)
        except LorakeetError as error:
            return problem(error, request)
        except Exception:  # noqa: BLE001  the top of every request
            # The trace stays here; the client gets the number under which it is found.
            _log.exception("%s failed, request %s", operation.name, request_id(request))
            return problem(_bug(request), request)

    return answer


async def _answer(operation: Operation, studio: "Studio", request: Request) -> Response:
    # A handler that takes another media type reads the body by itself, as it comes.
    raw = b"" if operation.takes or operation.method == "GET" else await raw_body(request)
    arguments = await arguments_of(operation, request, raw)

    async def carry_out(minted: str | None) -> Response:
        call = Call(request, studio, minted)
        return _response(operation, request, await operation.handler(call, **arguments))

    if operation.takes_key:
        return await idempotency.once(studio, request, raw, carry_out)
    return await carry_out(None)


def _response(operation: Operation, request: Request, result: Any) -> Response:
    match result:
        case FileAnswer():
            return FileResponse(result, request.headers)
        case StreamAnswer():
            return StreamResponse(result.chunks)
        case TextAnswer():
            return Response(result.text, media_type=result.media_type, headers=dict(result.headers))
        case Answer():
            return _json(request, result.body, result.status or operation.status, result)
        case _:
            return _json(request, result, operation.status, None)


def _json(request: Request, body: Any, status: int, answer: Answer[Any] | None) -> Response:
    headers = dict(answer.headers) if answer else {}
    if answer and answer.etag:
        headers["etag"] = answer.etag
        if request.method in ("GET", "HEAD") and matches(
            request.headers.get("if-none-match", '""'), answer.etag
        ):
            return Response(status_code=304, headers=headers)
    if "location" in headers:
        headers["location"] = PREFIX + headers["location"]
    if body is None:
        return Response(status_code=204 if status == 200 else status, headers=headers)
    return Response(_encode(body), status_code=status, headers=headers, media_type=_JSON)


def problem(error: LorakeetError, request: Request) -> Response:
    """The answer to a request that ended with `error`."""
    status, headers, body = problem_response(
        error, request_id=request_id(request), instance=request.scope["path"]
    )
    response = Response(body, status_code=status)
    response.raw_headers = headers
    return response


def request_id(request: Request) -> str | None:
    """The id under which the log speaks of a request."""
    given: str | None = request.scope.get("lorakeet.request_id")
    return given


def _bug(request: Request) -> InternalError:
    return InternalError(
        "Something in Lorakeet is wrong, and it is not your request. The studio's log says more.",
        trace_id=request_id(request) or "unknown",
    )
