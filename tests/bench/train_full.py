"""A full-size model on the processor: SD1.5 at 256 pixels in bf16; seconds a step, and memory by phase."""

from pathlib import Path
from typing import Any, Final

from tests.bench import weights
from tests.bench.figures import Figure, Report
from tests.bench.training import PLAIN, SMALL_SIDE, Bare, Trainer, of_size, pictures, python

_SIDE: Final = 256
#: Seconds a step, and MB, at most.
_STEP_S: Final = 2.6
_MEMORY_MB: Final = 3000.0


def run(quick: bool) -> Report:
    """In turns with bare steps."""
    model, side, rounds = _chosen(quick)
    source = pictures(4, side)
    with Trainer() as trainer:
        ran = [trainer.run(model, source, _tables(side, 5 if quick else 8)) for _ in range(rounds)]
    with Bare("sd15", model, side, "bfloat16") as bare:
        bare.ready()
        floor = bare.steps(2 if quick else 5)
    best = min(ran, key=lambda each: each.step_s(2))
    peak = max(each.peak_mb for each in ran)
    weights_mb = model.stat().st_size / 1e6
    notes = [python(), f"first step {best.first_s:.1f} s after the request; CPU {best.cpu:.0f} s in all"]
    return Report(
        [
            Figure(f"a step, SD1.5 at {side} px, bf16", best.step_s(2), floor, "s", _STEP_S, "value"),
            Figure("memory of the kernel (RssAnon)", peak, weights_mb, "MB", _MEMORY_MB, "value"),
        ],
        notes,
    )


def run_memory(quick: bool) -> Report:
    """Everything that a training does: encoding, loading, steps, samples."""
    model, side, _ = _chosen(quick)
    tables = _tables(side, 2) | {"sampling": {"prompts": ["a picture"], "steps": 2, "every_epochs": 1}}
    with Trainer() as trainer:
        ran = trainer.run(model, pictures(4, side), tables)
    floor = model.stat().st_size / 1e6
    figures = [
        Figure(f"{phase}: memory (RssAnon)", peak / 1e6, floor, "MB", _MEMORY_MB, "value")
        for phase, peak in ran.outcome["memory"].items()
    ]
    return Report(figures, [python(), f"seen from outside, highest: {ran.peak_mb:.0f} MB; floor: the file"])


def _chosen(quick: bool) -> tuple[Path, int, int]:
    if quick:
        return weights.small("sd15"), SMALL_SIDE, 1
    return weights.checkpoint(weights.FULL, 0), _SIDE, 2


def _tables(side: int, steps: int) -> dict[str, Any]:
    return {
        **PLAIN,
        "data": of_size(side),
        "precision": {"compute": "bf16"},
        "training": {"steps": steps},
    }
