"""Child processes of a benchmark, driven by one thread that reads and writes blocking: nothing else that
takes time stands between the clock and the pipe. Also what Linux knows of a process from outside.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.bench import cache

_CHUNK = 64 * 1024
#: How a notification begins, so that none need be decoded.
_NOTIFICATION = b'{"jsonrpc":"2.0","method":'


def environment() -> dict[str, str]:
    """For every child alike: idle threads sleep, and bytecode is cached as it is in an installed program."""
    own = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPYCACHEPREFIX": str(cache.folder() / "bytecode")}
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | own


class Child:
    """A Python of this environment with `arguments`. Leaving the `with` block kills it."""

    def __init__(self, *arguments: str) -> None:
        self._rest = b""
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._in, rest) :]

    def has_more(self, timeout_s: float) -> bool:
        """Whether there is something to read within that time."""
        return b"\n" in self._rest or bool(select.select([self._out], [], [], timeout_s)[0])

    def line(self) -> bytes:
        """The next line, with its newline. Raises EOFError."""
        pieces = [self._rest]
        while (end := pieces[-1].find(b"\n")) < 0:
            if not (chunk := os.read(self._out, _CHUNK)):
                raise EOFError(f"the child has ended with {self._process.wait()}")
            pieces.append(chunk)
        pieces[-1], self._rest = pieces[-1][: end + 1], pieces[-1][end + 1 :]
        return b"".join(pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()


class Kernel(Child):
    """A kernel, `command` being its arguments of Python. The one that drives it decodes no line that it need
    not know: that would take its cores."""

    def __init__(self, *command: str) -> None:
        super().__init__(*(command or ("-m", "kernel")))
        self._last_id = 0

    def send(self, method: str, params: Mapping[str, Any]) -> int:
        """Write a request; its id."""
        self._last_id += 1
        self.write(request(self._last_id, method, params))
        return self._last_id

    def terminal(self, request_id: int, also: Callable[[bytes], object] = len) -> Any:
        """The response to a request, whole; `also` sees each line before it."""
        while True:
            line = self.line()
            if not line.startswith(_NOTIFICATION):
                message = msgspec.json.decode(line)
                if message["id"] == request_id:
                    return message
            also(line)

    def answer(self, request_id: int) -> Any:
        """The result of a request. Raises RuntimeError for an error."""
        message = self.terminal(request_id)
        if "result" not in message:
            raise RuntimeError(message["error"])
        return message["result"]

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        return self.answer(self.send(method, params))

    def initialize(self, *roots: Path) -> Any:
        return self.call("initialize", handshake(*roots))


def handshake(*roots: Path) -> dict[str, Any]:
    """The params of `initialize`."""
    return {
        "contract": {"levels": [1]},
        "client": {"name": "tests.bench"},
        "roots": [str(root) for root in roots],
    }


def request(request_id: int, method: str, params: Mapping[str, Any]) -> bytes:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return msgspec.json.encode(message) + b"\n"


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its threads, user and system, to the nanosecond (clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


def busy_s() -> float:
    """CPU seconds that all cores of this machine together have worked since it started (/proc/stat)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, _first_line("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    """Megabytes (10^6 bytes) by name: `RssAnon`, what a process has of its own, and `VmRSS`, with files."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "VmRSS")}


def mapped(pid: int, names: Sequence[str]) -> list[str]:
    """The files in a process's memory whose path contains one of `names`."""
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    files = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return sorted(file for file in files if any(name in file for name in names))


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()


def load() -> str:
    """What else this machine is doing: /proc/loadavg."""
    return " ".join(f"{each:.2f}" for each in os.getloadavg())
