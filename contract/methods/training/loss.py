"""`[objective.loss]`: how far the prediction is from the target."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field


class L2(Strict, frozen=True, kw_only=True, tag="l2", tag_field="type"):
    """The squared difference."""


class L1(Strict, frozen=True, kw_only=True, tag="l1", tag_field="type"):
    """The difference without its sign."""


class _Robust(Strict, frozen=True, kw_only=True):
    """Losses that are squared near 0 and straight far from it, so that outliers count for less."""

    c: Annotated[
        float,
        field("Width", "Where the loss turns from a square to a line.", detail="advanced", gt=0, le=1000),
    ] = 0.1
    schedule: Annotated[
        Literal["constant", "exponential", "snr"],
        field(
            "Width by timestep",
            "`constant`: the same everywhere. `exponential` and `snr`: from 1 at the least noise down to it "
            "at the most, by timestep or by signal-to-noise ratio.",
            detail="expert",
        ),
    ] = "snr"
    scale: Annotated[
        float, field("Scale", "Multiplies the width everywhere.", detail="expert", gt=0, le=1000)
    ] = 1.0


class Huber(_Robust, frozen=True, kw_only=True, tag="huber", tag_field="type"):
    """The pseudo-Huber loss, 2c · (√(d² + c²) − c)."""


class SmoothL1(_Robust, frozen=True, kw_only=True, tag="smooth_l1", tag_field="type"):
    """The smooth L1 loss, 2 · (√(d² + c²) − c)."""


#: How differences count; others join by their own `type`.
Loss = L2 | L1 | Huber | SmoothL1
