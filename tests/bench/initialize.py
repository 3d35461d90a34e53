"""From starting a kernel to its answer to `initialize`, against a Python that imports msgspec and anyio."""

import os
import signal
import time
from typing import NamedTuple

from tests.bench.child import Child, Kernel, cpu_s, handshake, mapped, request
from tests.bench.figures import Figure, Report, median

_TARGET = 1.5
_FLOOR = "import msgspec, anyio, os; os.write(1, b'\\n'); os.read(0, 1)"
#: Libraries that load when a job needs them; none may be in memory by then.
_HEAVY = ("torch", "onnxruntime", "numpy", "PIL", "jsonrpcserver")


class _Start(NamedTuple):
    wall_ms: float
    cpu_ms: float
    heavy: list[str]


def run(quick: bool) -> Report:
    """Wall and CPU time from spawn to the first line, in turn."""
    rounds = 2 if quick else 31
    kernels, floors = [], []
    for _ in range(rounds + 1):
        floors.append(_started(Child("-c", _FLOOR), b""))
        kernels.append(_started(Kernel(), request(1, "initialize", handshake())))
    del floors[0], kernels[0]  # those may have compiled bytecode
    heavy = sorted({file for start in kernels for file in start.heavy})
    wall = [median([start.wall_ms for start in starts]) for starts in (kernels, floors)]
    cpu = [median([start.cpu_ms for start in starts]) for starts in (kernels, floors)]
    notes = [
        f"CPU {cpu[0]:.1f} ms, floor {cpu[1]:.1f} ms, ratio {cpu[0] / cpu[1]:.2f}; {rounds} rounds",
        f"mapped of {', '.join(_HEAVY)}: {', '.join(heavy) or 'none'}",
    ]
    return Report([Figure("initialize answered", wall[0], wall[1], "ms", _TARGET)], notes)


def _started(child: Child, request_line: bytes) -> _Start:
    with child:
        child.write(request_line)
        child.line()
        wall_s = time.perf_counter() - child.started
        os.kill(child.pid, signal.SIGSTOP)  # what it does next is not counted
        return _Start(wall_s * 1e3, cpu_s(child.pid) * 1e3, mapped(child.pid, _HEAVY))
