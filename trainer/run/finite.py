"""Ends a run whose numbers are none any more."""

import math
from collections.abc import Sequence
from typing import Final

from contract.errors import NanLoss
from contract.rules.paths import to_wire

#: Names of files that an error repeats in its details, and in its text.
_MOST_NAMES: Final = 64
_SHOWN: Final = 3


def check_finite(
    losses: Sequence[float],
    norm: float,
    paths: Sequence[Sequence[str]],
    *,
    step: int,
    checkpoint: str | None,
    skips_overflows: bool,
) -> None:
    """Look at the losses of the batches of a step, whose pictures lie at `paths`, and at the norm of their
    gradients, which in fp16 may be infinite: such a step changes nothing.

    Raises NanLoss with the pictures and the last good checkpoint; `step` counts from 1.
    """
    bad = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
    if not bad and (math.isfinite(norm) or skips_overflows):
        return
    names = [to_wire(path) for index in bad or range(len(losses)) for path in paths[index]]
    what = "The loss" if bad else "The gradient"
    kept = "There is no checkpoint yet" if checkpoint is None else "The last good checkpoint stays"
    raise NanLoss(
        f"{what} of step {step} is no number; its pictures: {', '.join(names[:_SHOWN])}"
        f"{' and others' if len(names) > _SHOWN else ''}. {kept}.",
        where=names[0] if names else None,
        hint="A lower learning rate, bf16 or fp32 instead of fp16, or gradient clipping help most often.",
        details={
            "step": step,
            "images": names[:_MOST_NAMES],
            "checkpoint": None if checkpoint is None else to_wire(checkpoint),
        },
    )
