"""`ping` over real pipes against a process that echoes as many bytes, with the same blocking driver."""

import time

from tests.bench.child import Child, Kernel, request
from tests.bench.figures import Figure, Report, interleaved, median

_TARGET = 12.0
# Reads a request of known size, writes an answer of known size, knows nothing else.
_ECHO = """
import os, sys
asked, answer = int(sys.argv[1]), b"x" * (int(sys.argv[2]) - 1) + b"\\n"
while True:
    got = 0
    while got < asked:
        got += len(chunk := os.read(0, 65536))
        if not chunk:
            os._exit(0)
    os.write(1, answer)
"""


def run(quick: bool) -> Report:
    """p50 of a round trip, several rounds in turn."""
    rounds, trips = (2, 20) if quick else (9, 2000)
    asked = request(7, "ping", {})
    with Kernel() as kernel:
        kernel.initialize()
        kernel.line()  # kernel/state: it has loaded what it wanted to
        kernel.write(asked)
        answer = kernel.line()
        with Child("-c", _ECHO, str(len(asked)), str(len(answer))) as echo:
            found = interleaved(
                rounds, {"ping": lambda: _p50(kernel, asked, trips), "echo": lambda: _p50(echo, asked, trips)}
            )
    figure = Figure("ping p50", median(found["ping"]), median(found["echo"]), "µs", _TARGET)
    return Report([figure], [f"{len(asked)} bytes asked, {len(answer)} answered, {rounds} x {trips} trips"])


def _p50(child: Child, asked: bytes, trips: int) -> float:
    """Microseconds."""
    taken = []
    for _ in range(trips):
        started = time.perf_counter()
        child.write(asked)
        child.line()
        taken.append(time.perf_counter() - started)
    return median(taken) * 1e6
