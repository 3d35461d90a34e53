"""From an HTTP request to what a handler takes: path, query and body, checked, all problems at once."""

from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from contract.errors import BodyInvalid, BodyTooLarge, MediaTypeWrong, NotFound
from contract.validation import Problem, decode, invalid
from orchestrator.api.registry import Operation

T = TypeVar("T", bound=msgspec.Struct)

#: Bytes of a JSON body; long lists of anything have ways of their own.
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_JSON: Final = "application/json"


async def arguments_of(operation: Operation, request: Request, raw: bytes) -> dict[str, Any]:
    """The keyword arguments of the handler. Raises NotFound, InvalidParams, BodyInvalid, MediaTypeWrong."""
    arguments: dict[str, Any] = path_arguments(operation, request)
    if operation.query is not None:
        arguments["query"] = query_of(request, operation.query)
    elif request.query_params:
        raise invalid(
            [Problem(f"$.query.{name}", "is not a known parameter") for name in request.query_params]
        )
    if operation.body is not None:
        arguments["body"] = body_of(request, raw, operation.body)
    return arguments


def path_arguments(operation: Operation, request: Request) -> dict[str, Any]:
    """What stands in the path; a name that cannot be one of ours is simply not found."""
    try:
        return {
            name: msgspec.convert(request.path_params[name], wanted, strict=False)
            for name, wanted in operation.path_types.items()
        }
    except msgspec.ValidationError:
        raise NotFound("There is nothing of that name.") from None


def query_of(request: Request, wanted: type[T]) -> T:
    """The query as a Struct. Raises InvalidParams for unknown, doubled and wrong parameters."""
    values: dict[str, str] = {}
    doubled = []
    for name, value in request.query_params.multi_items():
        if name in values:
            doubled.append(Problem(f"$.query.{name}", "is given more than once"))
        values[name] = value
    if doubled:
        raise invalid(doubled)
    found = decode(values, wanted, path="$.query", strict=False)
    # As texts stand for numbers here, `null` stands for nothing; but what says nothing is left out.
    if nothing := [name for name in values if getattr(found, name) is None]:
        raise invalid([Problem(f"$.query.{name}", "is null; leave it out instead") for name in nothing])
    return found


def body_of(request: Request, raw: bytes, wanted: type[T]) -> T:
    """The body as a Struct. Raises MediaTypeWrong, BodyInvalid and InvalidParams."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _JSON and not media_type.endswith("+json"):
        raise MediaTypeWrong(f"Send the body as {_JSON}.")
    try:
        return msgspec.json.decode(raw, type=wanted)
    except _UNREADABLE:
        # Read again without a type, for all problems at once. Behind the first one may be anything.
        return decode(_read(raw), wanted)


#: What msgspec raises for a text that is no JSON, and for JSON that does not fit.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _read(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE:
        raise BodyInvalid("The body is not JSON in UTF-8, or a number in it is out of range.") from None


async def raw_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as that is known."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
    except ClientDisconnect:
        raise BodyInvalid("The body ended too early.") from None
    return b"".join(parts)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes.", details={"limit_bytes": limit})
