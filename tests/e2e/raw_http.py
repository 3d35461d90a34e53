"""HTTP/1.1 by hand: requests leave byte by byte as a test wrote them, many before the first answer."""

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec

#: Seconds that any answer may take.
PATIENCE_S: Final = 30.0
#: Requests that are sent before the first answer is read; both directions fit into the sockets' buffers.
BATCH: Final = 64


class Reply(NamedTuple):
    """One answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for each, value in self.headers if each == name), None)

    @property
    def code(self) -> str | None:
        """The `code` of a problem; None for anything else."""
        if self.header("content-type") != "application/problem+json" or not self.body:
            return None
        code: Any = msgspec.json.decode(self.body)["code"]
        return str(code)


class Line:
    """A connection that stays open. `source` is the address of loopback that it seems to come from."""

    def __init__(self, host: str, port: int, *, source: str = "") -> None:
        own = (source, 0) if source else None
        self._socket = socket.create_connection((host, port), PATIENCE_S, own)
        self._read = self._socket.makefile("rb")

    def ask(self, requests: Sequence[bytes]) -> list[Reply]:
        """The answer to each, in order. Raises ConnectionError where the other side hangs up before."""
        replies: list[Reply] = []
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            self._socket.sendall(b"".join(batch))
            replies += [self._reply(has_body=not each.startswith(b"HEAD ")) for each in batch]
        return replies

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._read.close()
        self._socket.close()

    def _reply(self, *, has_body: bool) -> Reply:
        first = self._read.readline()
        if not first:
            raise ConnectionError("the connection was closed before the answer came")
        status = int(first.split(b" ", 2)[1])
        headers = list(iter(self._header, ("", "")))
        length = int(next((value for name, value in headers if name == "content-length"), "0"))
        return Reply(status, headers, self._read.read(length) if has_body and status != 304 else b"")

    def _header(self) -> tuple[str, str]:
        name, _, value = self._read.readline().decode("latin-1").strip().partition(":")
        return name.lower(), value.strip()


def request_bytes(
    method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """A request as it goes through a socket; a method that may have a body says how long it is."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None or method in ("POST", "PUT", "PATCH", "DELETE"):
        lines.append(f"Content-Length: {len(body or b'')}")
    return "".join(f"{each}\r\n" for each in [*lines, ""]).encode("latin-1") + (body or b"")
