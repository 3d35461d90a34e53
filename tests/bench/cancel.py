"""From `cancel` to the job's one response, while the host takes 2 ms for every message it reads."""

import time
from pathlib import Path
from typing import Any, Final

from tests.bench import photos
from tests.bench.child import Kernel
from tests.bench.figures import Figure, Report, median

_TARGET_MS: Final = 50.0
_READING_S: Final = 0.002
#: Seconds after the start of tagging within which jobs are canceled.
_SPREAD_S: Final = 0.3
_PICTURES: Final = 3_000
_MODEL: Final = Path(__file__).parents[2] / "kernel" / "data" / "demo-tagger"


class _SlowHost(Kernel):
    """Takes its time over every message."""

    def line(self) -> bytes:
        time.sleep(_READING_S)
        return super().line()


def run(quick: bool) -> Report:
    """Jobs that report every picture by itself, each canceled at another moment; pings in between."""
    rounds, count, side = (2, 20, 128) if quick else (25, 200, 256)
    paths = photos.jpegs(count, side) * (_PICTURES // count)  # more than there is time for
    cancels, pings, behind = [], [], []
    with _SlowHost() as kernel:
        kernel.initialize(paths[0].parent, _MODEL)
        kernel.line()  # kernel/state
        for number in range(rounds + 1):
            pings.append(_ping_ms(kernel))
            ms, lines = _cancel_ms(kernel, number, paths, number / rounds * _SPREAD_S)
            cancels.append(ms)
            behind.append(lines)
    del cancels[0], behind[0], pings[0]  # the model was loaded
    figures = [
        Figure(f"cancel to terminal, {name}", ms, median(pings), "ms", _TARGET_MS, "value")
        for name, ms in (("median", median(cancels)), ("max", max(cancels)))
    ]
    notes = [
        f"{rounds} jobs of {len(paths)} photographs of {side} px, batch size 1; floor: a ping of this host",
        f"messages read between cancel and terminal: median {median(behind):.0f}, max {max(behind)}",
    ]
    return Report(figures, notes)


def _ping_ms(kernel: Kernel) -> float:
    started = time.perf_counter()
    kernel.call("ping", {})
    return (time.perf_counter() - started) * 1e3


def _cancel_ms(kernel: Kernel, number: int, paths: list[Path], after_s: float) -> tuple[float, int]:
    """Milliseconds, and the messages that were read meanwhile; canceled `after_s` into tagging."""
    job_id = f"cancel_{number}"
    job = kernel.send("tag", _params(job_id, paths))
    while b'"phase":"tag"' not in kernel.line():
        pass
    _read_for(kernel, after_s)
    lines: list[bytes] = []
    started = time.perf_counter()
    kernel.send("cancel", {"job_id": job_id})
    terminal = kernel.terminal(job, lines.append)
    taken = time.perf_counter() - started
    if "error" not in terminal:
        raise RuntimeError("the job ended before it was canceled")
    return taken * 1e3, len(lines)


def _read_for(kernel: Kernel, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        if kernel.has_more(left):
            kernel.line()


def _params(job_id: str, paths: list[Path]) -> dict[str, Any]:
    settings = {"model": {"path": str(_MODEL)}, "batch_size": 1}
    return {"job_id": job_id, "v": 2, "inputs": {"images": list(map(str, paths))}, "settings": settings}
