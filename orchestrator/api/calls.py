"""What a handler is given beside its body, and what it may answer."""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from starlette.requests import Request

from contract.errors import StaleVersion, VersionRequired
from orchestrator.ids import derived_id, new_id

if TYPE_CHECKING:
    from orchestrator.studio import Studio

T = TypeVar("T")

_DIGITS: Final = re.compile("[0-9]+")


class Call:
    """One request. `minted` is set where it carries an idempotency key: ids made of it are the same again."""

    def __init__(self, request: Request, studio: "Studio", minted: str | None = None) -> None:
        self.request = request
        self.studio = studio
        self._minted = minted
        self._made = 0

    def new_id(self, prefix: str) -> str:
        """An id for something that this request makes; the same when the request comes again."""
        if self._minted is None:
            return new_id(prefix)
        self._made += 1
        return derived_id(prefix, self._minted, self._made)

    @property
    def is_again(self) -> bool:
        """Whether this may be the second try of a request whose first try has done something."""
        return self._minted is not None

    def require_match(self, etag: str) -> None:
        """Raises VersionRequired without `If-Match`, and StaleVersion where it names another version."""
        given = self.request.headers.get("if-match")
        if given is None:
            raise VersionRequired(
                "Say which version this is a change of: send its ETag as If-Match.",
                hint="Read it first; its answer has the ETag.",
            )
        if not matches(given, etag):
            raise StaleVersion(
                "It was changed by somebody else meanwhile.",
                hint="Read it again and make the change anew.",
                details={"etag": etag},
            )

    def wait_s(self) -> float:
        """Seconds that the client would wait for the end, from `Prefer: wait=N` (RFC 7240), at most 30."""
        for each in self.request.headers.get("prefer", "").split(","):
            name, _, value = each.strip().partition("=")
            if name.lower() == "wait" and _DIGITS.fullmatch(value.strip('"')):
                return min(float(value.strip('"')), 30.0)
        return 0.0


class Answer(msgspec.Struct, Generic[T], kw_only=True):
    """A reply with more than its body: headers, another status, the ETag of what it shows."""

    body: T | None = None
    status: int | None = None
    headers: Mapping[str, str] = {}
    etag: str | None = None


class FileAnswer(msgspec.Struct, kw_only=True):
    """A file, sent with ranges and validators. `inline` only for what no browser can run.

    `open` makes its descriptor, blocking, where `path` leads through folders of others, who may put a link
    into it at any time.
    """

    path: Path
    open: Callable[[], int] | None = None
    media_type: str
    name: str | None = None
    inline: bool = False
    immutable: bool = False
    etag: str | None = None


class TextAnswer(msgspec.Struct, kw_only=True):
    """A text of its own media type."""

    text: str
    media_type: str
    headers: Mapping[str, str] = {}


class StreamAnswer(msgspec.Struct, kw_only=True):
    """Events for as long as the client listens."""

    chunks: AsyncGenerator[bytes]


def etag(*parts: Any) -> str:
    """A strong ETag (RFC 9110) of what these values say."""
    import hashlib

    return f'"{hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]}"'


def matches(given: str, etag: str) -> bool:
    """Whether a list of ETags names `etag`; weak ones never do (RFC 9110, strong comparison)."""
    return given.strip() == "*" or etag in (each.strip() for each in given.split(","))
