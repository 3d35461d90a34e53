"""Programs on this machine that are no studio: one whose pages attack it, and one that guards nothing."""

import base64
import hashlib
import io
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, NamedTuple

SCRIPT: Final = (Path(__file__).parent / "attack.js").read_text(encoding="utf-8")
#: Where the page has an origin of its own that no name stands for.
SANDBOXED: Final = "/sandboxed"
#: What a secret looks like; the unguarded server tells it to everybody.
SECRET: Final = "the secret of the unguarded"

_SANDBOX: Final = "sandbox allow-scripts allow-forms allow-popups"
_PIXEL: Final = base64.b64decode("R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==")
_ACCEPT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Arrived(NamedTuple):
    """A request that an unguarded server has let in."""

    method: str
    path: str
    media_type: str
    body: bytes


class _Attacker(BaseHTTPRequestHandler):
    """Empty pages; the test brings the script."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        if self.path == SANDBOXED:
            self.send_header("content-security-policy", _SANDBOX)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>attacker</title><body>")

    def log_message(self, format: str, *args: object) -> None:
        return


class _Unguarded(_Attacker):
    """Answers with whatever the browser would like to have, and says that everybody may read it."""

    arrived: list[Arrived]

    def do_GET(self) -> None:
        self._note()
        if self.headers["upgrade"] == "websocket":
            self._shake_hands()
            return
        media_type, body = _wanted(self.headers)
        self._answer(media_type, body)

    def do_POST(self) -> None:
        self._note()
        self._answer("text/html", SECRET.encode())

    do_PUT = do_PATCH = do_DELETE = do_POST

    def do_OPTIONS(self) -> None:
        self._answer("text/plain", b"")

    def _note(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        media_type = self.headers.get("content-type", "")
        self.arrived.append(Arrived(self.command, self.path, media_type, body))

    def _answer(self, media_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("timing-allow-origin", "*")
        self.send_header("access-control-allow-origin", self.headers.get("origin", "*"))
        self.send_header("access-control-allow-credentials", "true")
        self.send_header("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE")
        self.send_header("access-control-allow-headers", self.headers["access-control-request-headers"] or "")
        self.end_headers()
        self.wfile.write(body)

    def _shake_hands(self) -> None:
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        key = self.headers["sec-websocket-key"].encode() + _ACCEPT
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key).digest()).decode())
        self.end_headers()
        self.close_connection = True


def _wanted(headers: object) -> tuple[str, bytes]:
    """What suits the element that asks."""
    from email.message import Message

    assert isinstance(headers, Message)
    match headers["sec-fetch-dest"]:
        case "image":
            return "image/gif", _PIXEL
        case "audio":
            return "audio/wav", _sound()
        case "script":
            return "text/javascript", b"export const secret = 1"
        case "style":
            return "text/css", b"body { color: red }"
        case "document" | "iframe" | "object":
            return "text/html", f"{SECRET}<iframe></iframe><iframe></iframe>".encode()
    if headers["accept"] == "text/event-stream":
        return "text/event-stream", b"data: 1\n\n"
    return "text/plain", SECRET.encode()


def _sound() -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 1, 8_000, 0, "NONE", ""))
        file.writeframes(b"\x80" * 800)
    return made.getvalue()


@contextmanager
def attacker() -> Iterator[int]:
    """A server of attacking pages, under every name of this machine; its port."""
    with _served(_Attacker) as port:
        yield port


@contextmanager
def unguarded() -> Iterator[tuple[int, list[Arrived]]]:
    """A server that lets everything in; its port, and what came."""
    arrived: list[Arrived] = []
    with _served(type("Unguarded", (_Unguarded,), {"arrived": arrived})) as port:
        yield port, arrived


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
