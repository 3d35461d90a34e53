"""What a training has measured, as its own file says it: `metrics.jsonl` in the folder of its run.

What reaches the studio while it runs may have gaps, where the studio was killed, and too much, where the run
went back to a checkpoint; at the end of each attempt the tables are brought in line with the file.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from anyio import to_thread

from contract.errors import LorakeetError
from contract.methods.train import TrainMetrics
from orchestrator.clock import now_ms
from orchestrator.jobs import metrics
from orchestrator.jobs.work import Run

FILE: Final = "metrics.jsonl"
#: What every step has.
_ALWAYS: Final = "loss"


def measurements(item: TrainMetrics) -> dict[str, float]:
    """The numbers of a step by their keys; learning rates as `lr_unet`, `lr_te1`, `lr_te2`."""
    values = {
        _ALWAYS: item.loss,
        "loss_average": item.loss_average,
        "epoch": float(item.epoch),
        "seconds": item.seconds,
        "images_per_s": item.images_per_s,
        "data_wait": item.data_wait,
    }
    values |= {f"lr_{component}": rate for component, rate in item.rates.items()}
    if item.grad_norm is not None:
        values["grad_norm"] = item.grad_norm
    if item.memory is not None:
        values["memory"] = float(item.memory)
    return values


async def settle(run: Run) -> None:
    """Bring the tables in line with the file, if there is one. A full disk is no reason to fail."""
    items = await to_thread.run_sync(lambda: list(_lines(run.folder / FILE)))
    if not items:
        return
    telemetry, id = run.studio.telemetry, run.job.id
    with suppress(LorakeetError):
        await metrics.forget_after(telemetry, id, items[-1].step)
        kept = await metrics.steps(telemetry, id, _ALWAYS)
        now = now_ms()
        missing = [
            metrics.Sample(item.step, now, measurements(item)) for item in items if item.step not in kept
        ]
        await metrics.keep(telemetry, id, missing)


def _lines(path: Path) -> Iterator[TrainMetrics]:
    """The whole lines of the file; the last one may be half a line, of a kernel that was killed."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            yield _decoder.decode(line)


_decoder: Final = msgspec.json.Decoder(TrainMetrics)
