"""The memory of a kernel that has nothing to do, against a Python that only imports msgspec and anyio."""

import time

from tests.bench.child import Child, Kernel, mapped, memory_mb
from tests.bench.figures import Figure, Report, median

_TARGET_MB = 40.0
_FLOOR = "import msgspec, anyio, os; os.write(1, b'\\n'); os.read(0, 1)"


def run(quick: bool) -> Report:
    """Memory some moments after `kernel/state` and a ping."""
    rounds, settle_s = (1, 0.1) if quick else (5, 2.0)
    kernels, floors, heavy = [], [], []
    for _ in range(rounds):
        with Kernel() as kernel, Child("-c", _FLOOR) as floor:
            kernel.initialize()
            kernel.line()  # kernel/state
            floor.line()
            kernel.call("ping", {})
            time.sleep(settle_s)
            kernels.append(memory_mb(kernel.pid))
            floors.append(memory_mb(floor.pid))
            heavy += mapped(kernel.pid, ("torch", "onnxruntime", "numpy"))
    figures = [
        Figure(
            f"idle kernel, {name}",
            median([each[name] for each in kernels]),
            median([each[name] for each in floors]),
            "MB",
            _TARGET_MB,
            "value",
        )
        for name in ("RssAnon", "VmRSS")
    ]
    return Report(
        figures, [f"mapped of torch, onnxruntime, numpy: {', '.join(sorted(set(heavy))) or 'none'}"]
    )
