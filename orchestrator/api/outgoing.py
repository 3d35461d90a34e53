"""The headers that every answer leaves with, whoever made it."""

from collections.abc import Iterable
from typing import Final

from starlette.types import Message, Send

from orchestrator.api.hosts import Origin

Header = tuple[bytes, bytes]

#: Policies of one header add up, so an answer may bring a stricter one of its own.
_POLICY: Final[Header] = (
    b"content-security-policy",
    b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'; "
    b"img-src 'self' blob: data:",
)
_FIXED: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    # Not `no-referrer`: with it, browsers send our own forms with `Origin: null`.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_OURS: Final = frozenset(name for name, _ in _FIXED)

#: What a page of a listed origin may read of an answer, beyond what every page may.
_EXPOSED: Final = (
    b"Content-Disposition, Content-Range, Deprecation, ETag, Idempotency-Replayed, Location, Retry-After, "
    b"Sunset, X-Request-Id"
)
_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Last-Event-ID, "
        b"Prefer, Range, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
)


class Outgoing:
    """`send`, with our headers. `granted` is the listed origin that may read the answer."""

    def __init__(self, send: Send, *, varies: bool) -> None:
        self.granted: Origin | None = None
        self._send = send
        self._varies = varies

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._dressed(message.get("headers", ()))}
        await self._send(message)

    async def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """A whole answer."""
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})

    async def preflight(self) -> None:
        """What a browser asks before it lets a page of a listed origin send more than a form could."""
        await self._send(
            {
                "type": "http.response.start",
                "status": 204,
                "headers": [*self._dressed(()), *_PREFLIGHT],
            }
        )
        await self._send({"type": "http.response.body"})

    def _dressed(self, headers: Iterable[Header]) -> list[Header]:
        kept = [(name, value) for name, value in headers if not _is_ours(name.lower())]
        if not any(name.lower() == b"cache-control" for name, _ in kept):
            kept.append(_NO_STORE)
        return [*kept, _POLICY, *_FIXED, *self._cors()]

    def _cors(self) -> Iterable[Header]:
        # A cache must not give a listed page what was made for another, nor the other way round.
        if self._varies:
            yield b"vary", b"Origin"
        if self.granted:
            yield b"access-control-allow-origin", str(self.granted).encode()
            yield b"access-control-expose-headers", _EXPOSED


def _is_ours(name: bytes) -> bool:
    return name in _OURS or name.startswith(b"access-control-")
