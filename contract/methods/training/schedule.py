"""`[schedule]`: how the learning rate goes from the first step to the last."""

import math
from typing import Annotated

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction

#: The rate at the end, as a share of the learning rate.
End = Annotated[
    float,
    field("End", "The rate at the end, as a share of the learning rate.", detail="advanced", ge=0, le=1),
]


class WarmUp(Strict, frozen=True, kw_only=True):
    """What all schedules share: a beginning in which the rate rises in a straight line. Of w steps of it
    the first has 1 ÷ (w + 1) of the rate, so that none teaches nothing."""

    warmup_steps: Annotated[
        int,
        field(
            "Warm-up",
            "Steps in which the rate rises to its full height. Or give `warmup_share`.",
            unit="steps",
            ge=0,
            le=100_000_000,
        ),
    ] = 0
    warmup_share: Annotated[
        float,
        field(
            "Warm-up, as a share",
            "Share of all steps in which the rate rises to its full height. Or give `warmup_steps`.",
            detail="advanced",
            ge=0,
            lt=1,
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        if self.warmup_steps and self.warmup_share:
            raise Contradiction(("warmup_share", "give `warmup_steps` or `warmup_share`, not both"))

    def warmup(self, steps: int) -> int:
        """Steps in which the rate rises, of `steps` in all."""
        return self.warmup_steps or math.floor(self.warmup_share * steps)


class Constant(WarmUp, frozen=True, kw_only=True, tag="constant", tag_field="type"):
    """The same rate throughout."""


class Linear(WarmUp, frozen=True, kw_only=True, tag="linear", tag_field="type"):
    """Down in a straight line."""

    end: End = 0.0


class Cosine(WarmUp, frozen=True, kw_only=True, tag="cosine", tag_field="type"):
    """Down along half a wave: slow at both ends. Good for most."""

    end: End = 0.0


class CosineWithRestarts(WarmUp, frozen=True, kw_only=True, tag="cosine_with_restarts", tag_field="type"):
    """Down along half a wave several times, each time from the full rate."""

    cycles: Annotated[int, field("Cycles", "How often it goes down.", ge=1, le=10_000)] = 3
    end: End = 0.0


class Polynomial(WarmUp, frozen=True, kw_only=True, tag="polynomial", tag_field="type"):
    """Down as a power of the steps that are left; 1 is a straight line."""

    power: Annotated[float, field("Power", "The higher, the sooner the rate is low.", gt=0, le=100)] = 2.0
    end: End = 0.0


#: How the rate goes; others join by their own `type`.
Schedule = Constant | Linear | Cosine | CosineWithRestarts | Polynomial
