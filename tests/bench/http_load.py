"""Requests over connections that stay open, driven by one thread with a selector: cheap enough to share two
cores with the server that it measures."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

#: Makes the request of a number, whole, as bytes.
Make = Callable[[int], bytes]


class Load(NamedTuple):
    """What came of it. `latencies_s` counts from when a request was due, so that a stall is not hidden."""

    elapsed_s: float
    statuses: dict[int, int]
    latencies_s: list[float]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / self.elapsed_s

    def percentile_ms(self, share: float) -> float:
        """Such as 0.99."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3


class _Connection:
    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.rest = b""

    def ask(self, request: bytes, due: float) -> None:
        self.due, self.rest = due, b""
        self.socket.sendall(request)

    def status(self) -> int | None:
        """Take what is there; the status once the answer is whole."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.rest += data
        head, found, body = self.rest.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return None
        return int(head[9:12])


def _length(head: bytes) -> int:
    place = head.lower().find(b"content-length:")
    return 0 if place < 0 else int(head[place + 15 :].split(b"\r\n", 1)[0])


def closed_loop(address: tuple[str, int], make: Make, connections: int, seconds: float) -> Load:
    """Every connection asks again as soon as it has its answer."""
    numbers = _counted()
    with ExitStack() as stack:
        chosen = stack.enter_context(selectors.DefaultSelector())
        began = time.perf_counter()
        for _ in range(connections):
            connection = _Connection(address)
            stack.callback(connection.socket.close)
            chosen.register(connection.socket, selectors.EVENT_READ, connection)
            connection.ask(make(next(numbers)), time.perf_counter())
        statuses: dict[int, int] = {}
        latencies: list[float] = []
        open_ones = connections
        while open_ones:
            for connection in _readable(chosen):
                if (status := connection.status()) is None:
                    continue
                now = time.perf_counter()
                statuses[status] = statuses.get(status, 0) + 1
                latencies.append(now - connection.due)
                if now - began < seconds:
                    connection.ask(make(next(numbers)), now)
                else:
                    open_ones -= 1
        return Load(time.perf_counter() - began, statuses, latencies)


def open_loop(address: tuple[str, int], make: Make, rate: float, seconds: float) -> Load:
    """`rate` requests a second whatever the server does, each on a connection that is free."""
    statuses: dict[int, int] = {}
    latencies: list[float] = []
    free: list[_Connection] = []
    with ExitStack() as stack:
        chosen = stack.enter_context(selectors.DefaultSelector())
        began = time.perf_counter()
        asked = 0
        count = int(rate * seconds)
        while len(latencies) < count:
            now = time.perf_counter()
            while asked < count and began + asked / rate <= now:
                if not free:
                    fresh = _Connection(address)
                    stack.callback(fresh.socket.close)
                    chosen.register(fresh.socket, selectors.EVENT_READ, fresh)
                    free.append(fresh)
                free.pop().ask(make(asked), began + asked / rate)
                asked += 1
            pause_s = max(0.0, began + asked / rate - now) if asked < count else 1.0
            for connection in _readable(chosen, pause_s):
                if (status := connection.status()) is not None:
                    statuses[status] = statuses.get(status, 0) + 1
                    latencies.append(time.perf_counter() - connection.due)
                    free.append(connection)
        return Load(time.perf_counter() - began, statuses, latencies)


def _counted() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _readable(chosen: selectors.BaseSelector, timeout_s: float = 30.0) -> Iterator[_Connection]:
    for key, _ in chosen.select(timeout_s):
        yield key.data


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """One HTTP/1.1 request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body or method == "POST":
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
