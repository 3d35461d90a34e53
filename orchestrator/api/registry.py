"""The table of operations: the only way to make a route, and the source of its checks and its documents.

A handler's annotations say what it takes: `body` and `query` are Structs, every other argument beside `call`
stands in the path. Its return annotation says what it answers, its docstring what it is for.
"""

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar

import msgspec

from contract.errors import LorakeetError
from orchestrator.api.calls import Answer, FileAnswer, StreamAnswer, TextAnswer

PREFIX: Final = "/api/v1"

Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Errors = tuple[type[LorakeetError], ...]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a method of a path, what it takes, what it answers, and how it may fail.

    `takes` is the media type of a body that the handler reads by itself, `gives` that of an answer that is no
    JSON. `is_public` stands outside the prefix and needs no token, `at_root` only the former. An answer that
    `is_secret` is kept nowhere, so such a POST takes no `Idempotency-Key`.
    """

    method: Method
    path: str
    name: str
    tag: str
    summary: str
    description: str
    handler: Handler
    status: int
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    path_types: dict[str, Any]
    reply: Any
    errors: Errors
    takes: str | None
    gives: str | None
    has_etag: bool
    needs_match: bool
    is_public: bool
    at_root: bool
    is_secret: bool

    @property
    def full_path(self) -> str:
        """As clients write it."""
        return self.path if self.is_public or self.at_root else PREFIX + self.path

    @property
    def takes_key(self) -> bool:
        """Whether an `Idempotency-Key` makes a second request the same as the first."""
        return self.method == "POST" and not self.is_public and not self.is_secret


class Routes:
    """The operations of one resource, in the order in which they were written."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.operations: list[Operation] = []

    def add(
        self,
        method: Method,
        path: str,
        *,
        status: int = 200,
        errors: Errors = (),
        takes: str | None = None,
        gives: str | None = None,
        has_etag: bool = False,
        needs_match: bool = False,
        is_public: bool = False,
        at_root: bool = False,
        is_secret: bool = False,
    ) -> Callable[[H], H]:
        """Make the decorated coroutine the handler of `method` and `path`; see Operation for the rest."""

        def register(handler: H) -> H:
            hints = typing.get_type_hints(handler, include_extras=True)
            reply = _reply(hints.pop("return"))
            hints.pop("call")
            summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
            self.operations.append(
                Operation(
                    method=method,
                    path=path,
                    name=handler.__name__,
                    tag=self.tag,
                    summary=" ".join(summary.split()),
                    description=description,
                    handler=handler,
                    status=status,
                    body=hints.pop("body", None),
                    query=hints.pop("query", None),
                    path_types=hints,
                    reply=reply,
                    errors=errors,
                    takes=takes,
                    gives=gives,
                    has_etag=has_etag,
                    needs_match=needs_match,
                    is_public=is_public,
                    at_root=at_root,
                    is_secret=is_secret,
                )
            )
            return handler

        return register

    def get(self, path: str, **options: Any) -> Callable[[H], H]:
        """A safe operation."""
        return self.add("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[H], H]:
        """An operation that makes or starts something; it takes an `Idempotency-Key`."""
        return self.add("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[H], H]:
        """An operation that replaces something."""
        return self.add("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[H], H]:
        """An operation that changes a part of something."""
        return self.add("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[H], H]:
        """An operation that removes something."""
        return self.add("DELETE", path, **options)


def _reply(annotation: Any) -> Any:
    """The Struct inside of an `Answer[…]`; None for no body; the special answers as they are."""
    if typing.get_origin(annotation) is Answer:
        (annotation,) = typing.get_args(annotation)
    return None if annotation is type(None) else annotation


#: Answers that are no JSON document.
SPECIAL: Final = (FileAnswer, TextAnswer, StreamAnswer)
