"""Many readers of one event stream in one process: `python -m tests.bench.sse_readers`, driven by JSON lines.

Takes one line `{host, port, path, headers, readers, stalled, marker}`, connects, says `ready`, and on the
next line of stdin ends and says what it saw: how many events each reader got, whether any was doubled or
missing, and the lags. An event counts if its data holds `marker` followed by the nanoseconds at which it was
sent.
"""

import json
import re
import selectors
import socket
import sys
import time
from typing import Any


class Reader:
    """One connection, and what came over it."""

    def __init__(self, asked: dict[str, Any], pattern: re.Pattern[bytes]) -> None:
        self.socket = socket.create_connection((asked["host"], asked["port"]), timeout=30)
        lines = [f"GET {asked['path']} HTTP/1.1", *(f"{k}: {v}" for k, v in asked["headers"].items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.socket.setblocking(False)
        self.pattern = pattern
        self.rest = b""
        self.begun = False
        self.ids: list[int] = []
        self.lags: list[int] = []

    def read(self) -> bool:
        """Take what is there; False when the other side has ended."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return True
        now = time.time_ns()
        self.begun = True
        self.rest += data
        while (end := self.rest.find(b"\n\n")) >= 0:
            found = self.pattern.search(self.rest, 0, end)
            if found:
                self.ids.append(int(found[1]))
                self.lags.append(now - int(found[2]))
            self.rest = self.rest[end + 2 :]
        return bool(data)


def main() -> None:
    """Read until told to stop."""
    asked = json.loads(sys.stdin.readline())
    pattern = re.compile(rb"id: (\d+)\n.*?" + asked["marker"].encode() + rb"(\d+)", re.DOTALL)
    chosen = selectors.DefaultSelector()
    readers = [Reader(asked, pattern) for _ in range(asked["readers"])]
    # They ask and never read: what the server has for them stays in the sockets.
    stalled = [Reader(asked, pattern) for _ in range(asked["stalled"])]
    for reader in readers:
        chosen.register(reader.socket, selectors.EVENT_READ, reader)
    chosen.register(sys.stdin, selectors.EVENT_READ, None)
    said = False
    while True:
        for key, _ in chosen.select(timeout=1):
            if key.data is None:
                _report(readers, len(stalled))
                return
            if not key.data.read():
                chosen.unregister(key.fileobj)
        if not said and all(reader.begun for reader in readers):
            said = True
            print("ready", flush=True)


def _report(readers: list[Reader], stalled: int) -> None:
    lags = sorted(lag for reader in readers for lag in reader.lags)
    ids = [reader.ids for reader in readers]
    longest = max(ids, key=len, default=[])
    report = {
        "events": len(lags),
        "doubled": sum(len(each) - len(set(each)) for each in ids),
        "differing": sum(each != longest for each in ids),
        "per_reader": len(longest),
        "stalled": stalled,
        "p50_ms": lags[len(lags) // 2] / 1e6 if lags else None,
        "p99_ms": lags[len(lags) * 99 // 100] / 1e6 if lags else None,
        "max_ms": lags[-1] / 1e6 if lags else None,
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
