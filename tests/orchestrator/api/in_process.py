"""An ASGI application driven without a server, so that absent and doubled headers are what they are."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Scope


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for each, value in self.headers if each.lower() == name]

    @property
    def problem(self) -> dict[str, Any]:
        """The body, where it is a problem."""
        assert self.all("content-type") == ["application/problem+json"]
        read: dict[str, Any] = msgspec.json.decode(self.body)
        return read


@dataclass
class Inner:
    """The application behind a guard: notes what reaches it and answers with `headers`."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": b"inside"})


def scope_of(
    path: str = "/api/v1",
    headers: Iterable[tuple[str, str]] = (),
    *,
    method: str = "GET",
    query: str = "",
    client: str = "127.0.0.1",
    scheme: str = "http",
) -> Scope:
    """A request as a server hands it over."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "scheme": scheme,
        "client": (client, 50_000),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }


async def ask(app: ASGIApp, scope: Scope) -> Reply:
    """The answer of `app` to a request without a body."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return Reply(sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:]))
