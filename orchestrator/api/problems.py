"""The one place where errors become HTTP answers: RFC 9457 problems, with every field error at once."""

import re
from typing import Any, Final

import msgspec

from contract.errors import (
    BodyInvalid,
    BodyTooLarge,
    Busy,
    CrossSite,
    DiskFull,
    FileMissing,
    HostRefused,
    InputError,
    InvalidParams,
    KernelError,
    KeyReused,
    LorakeetError,
    MediaTypeWrong,
    MethodNotAllowed,
    NotFound,
    NotReady,
    OutOfMemory,
    RangeInvalid,
    StaleVersion,
    StateConflict,
    StoreLocked,
    TooManyAttempts,
    Unauthorized,
    VersionRequired,
    WorkerError,
)

MEDIA_TYPE: Final = "application/problem+json"
#: A problem's type is an address of this page, which the studio serves itself.
TYPE_BASE: Final = "/api/v1/docs#problem-"
#: Seconds after which a client may try again what is only busy.
RETRY_AFTER_S: Final = 2

#: The status of each family; the first that fits, most special first.
STATUSES: Final[tuple[tuple[type[LorakeetError], int], ...]] = (
    (BodyInvalid, 400),
    (Unauthorized, 401),
    (CrossSite, 403),
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (StateConflict, 409),
    (StaleVersion, 412),
    (BodyTooLarge, 413),
    (MediaTypeWrong, 415),
    (RangeInvalid, 416),
    (HostRefused, 421),
    (VersionRequired, 428),
    (TooManyAttempts, 429),
    (KeyReused, 422),
    (InvalidParams, 422),
    (FileMissing, 422),
    (InputError, 422),
    (DiskFull, 507),
    (NotReady, 503),
    (StoreLocked, 503),
    (Busy, 503),
    (OutOfMemory, 503),
    (KernelError, 503),
    (WorkerError, 503),
)


class FieldProblem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One field that is wrong. `pointer` is a JSON pointer into the body, or names a parameter."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, kw_only=True):
    """What went wrong, as RFC 9457 has it. Programs branch on `code`; people read `detail`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    request_id: str | None = None
    where: str | None = None
    hint: str | None = None
    retryable: bool = False
    errors: list[FieldProblem] = []


def status_of(error: type[LorakeetError]) -> int:
    """The HTTP status of a class of errors; 500 for those that no client brings about."""
    return next((status for family, status in STATUSES if issubclass(error, family)), 500)


def problem_of(error: LorakeetError, *, request_id: str | None, instance: str | None) -> Problem:
    """`error` as clients read it."""
    return Problem(
        type=TYPE_BASE + error.kind,
        title=error.kind.replace("_", " ").capitalize(),
        status=status_of(type(error)),
        detail=error.message,
        code=error.kind,
        instance=instance,
        request_id=request_id,
        where=error.where,
        hint=error.hint,
        retryable=error.retryable,
        errors=[
            FieldProblem(pointer=pointer(each["where"]), detail=each["message"])
            for each in error.details.get("problems", ())
        ],
    )


def problem_response(
    error: LorakeetError, *, request_id: str | None, instance: str | None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the answer to a request that ended with `error`."""
    problem = problem_of(error, request_id=request_id, instance=instance)
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *_more_headers(error, problem.status),
    ]
    return problem.status, headers, body


def _more_headers(error: LorakeetError, status: int) -> list[tuple[bytes, bytes]]:
    headers: dict[str, Any] = dict(error.details.get("headers", {}))
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="lorakeet"'
    if status in (429, 503):
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    return [(name.encode(), value.encode()) for name, value in headers.items()]


_STEP: Final = re.compile(r'\.([^.\[]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]')


def pointer(where: str) -> str:
    """The JSON pointer (RFC 6901, as a fragment) of a JSON path: `$.a[0].b` → `#/a/0/b`."""
    steps = []
    for name, index, quoted in _STEP.findall(where.removeprefix("$")):
        step = name or index or msgspec.json.decode(quoted)
        steps.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "#" + "".join(f"/{step}" for step in steps)
