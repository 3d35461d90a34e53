"""From starting the studio to its first answer, against a process that answers one Starlette route."""

import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.child import Child, cpu_s, memory_mb
from tests.bench.figures import Figure, Report, median

_TARGET = 2.0
_TARGET_MB = 60.0
_FLOOR = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def answer(request):
    return PlainTextResponse("ok")

app = Starlette(routes=[Route("/healthz", answer)])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""
_ASK_S = 0.002


def run(quick: bool) -> Report:
    """Wall and CPU time from spawn to the first answer, in turn; then memory at rest."""
    rounds, settle_s = (1, 0.1) if quick else (15, 3.0)
    ours: list[tuple[float, float]] = []
    floors: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds + 1):
            floors.append(_answered(Child("-c", _FLOOR, str(port := free_port())), port))
            ours.append(_answered(_studio(home, port := free_port()), port))
        memory = _memory(home, settle_s)
    del ours[0], floors[0]  # the first makes the data directory, and may compile bytecode
    wall = [median([each[0] for each in times]) * 1e3 for times in (ours, floors)]
    cpu = [median([each[1] for each in times]) * 1e3 for times in (ours, floors)]
    notes = [f"CPU {cpu[0]:.0f} ms, floor {cpu[1]:.0f} ms, ratio {cpu[0] / cpu[1]:.2f}; {rounds} rounds"]
    figures = [
        Figure("studio answers", wall[0], wall[1], "ms", _TARGET),
        *(
            Figure(f"idle studio, {name}", memory[0][name], memory[1][name], "MB", _TARGET_MB, "value")
            for name in ("RssAnon", "VmRSS")
        ),
    ]
    return Report(figures, notes)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def _studio(home: str, port: int) -> Child:
    # Through the settings of a user: nothing is left out that a start does.
    arguments = ("--data", str(Path(home) / "studio"), "--json", "serve", "--no-browser", "--port", str(port))
    return Child("-m", "orchestrator.cli", *arguments)


def _answered(child: Child, port: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor until `/healthz` is answered."""
    with child:
        ask(port)
        return time.perf_counter() - child.started, cpu_s(child.pid)


def ask(port: int, within_s: float = 30.0) -> None:
    """Until `/healthz` is answered. Raises TimeoutError."""
    request = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    deadline = time.perf_counter() + within_s
    while time.perf_counter() < deadline:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(request)
            if asking.recv(64).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(_ASK_S)
    raise TimeoutError("no answer")


def _memory(home: str, settle_s: float) -> tuple[dict[str, float], dict[str, float]]:
    port, other = free_port(), free_port()
    with _studio(home, port) as studio, Child("-c", _FLOOR, str(other)) as floor:
        ask(port)
        ask(other)
        time.sleep(settle_s)
        return memory_mb(studio.pid), memory_mb(floor.pid)
