"""SDXL at its full size on a GPU: steps a second at 1024 pixels, and memory. Runs wherever a GPU is."""

from typing import Any, Final

from tests.bench import weights
from tests.bench.figures import Figure, Report
from tests.bench.training import PLAIN, SMALL_SIDE, Bare, Trainer, of_size, pictures, python

_SIDE: Final = 1024
_RATIO: Final = 1.10


def run(quick: bool) -> Report:
    """Without a GPU only its quick form says anything, of a small model on the processor."""
    gpu = _gpu()
    if gpu is None and not quick:
        return Report([], ["no GPU here"])
    side, dtype = (SMALL_SIDE, "float32") if quick else (_SIDE, "bfloat16")
    model = weights.small("sdxl") if quick else weights.sdxl()
    source = pictures(4, side)
    with Trainer() as trainer:
        ran = trainer.run(model, source, _tables(side, 5 if quick else 40))
    with Bare("sdxl", model, side, dtype) as bare:
        bare.ready()
        floor = bare.steps(3 if quick else 20)
    peaks = ", ".join(f"{phase} {peak / 1e9:.2f} GB" for phase, peak in ran.outcome["memory"].items())
    notes = [f"{gpu or 'no GPU'}; {python()}", f"memory by phase: {peaks}", f"{1 / ran.step_s():.3f} it/s"]
    return Report(
        [Figure(f"a step, SDXL at {side} px", ran.step_s() * 1e3, floor * 1e3, "ms", _RATIO)], notes
    )


def _tables(side: int, steps: int) -> dict[str, Any]:
    return {**PLAIN, "data": of_size(side), "training": {"steps": steps}}


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
