"""`[data.buckets]`: sizes for pictures of other shapes than square."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction


class Buckets(Strict, frozen=True, kw_only=True):
    """Sizes of about the area of the resolution, so that pictures keep their shape and little is cropped."""

    enabled: Annotated[
        bool,
        field(
            "Buckets", "Keep the shape of pictures; without, all are cropped to a square.", detail="advanced"
        ),
    ] = True
    min_side: Annotated[
        int,
        field(
            "Shortest side", "No side of a bucket is shorter.", unit="px", detail="advanced", ge=64, le=8192
        ),
    ] = 256
    max_side: Annotated[
        int,
        field("Longest side", "No side of a bucket is longer.", unit="px", detail="advanced", ge=64, le=8192),
    ] = 2048
    step: Annotated[
        int,
        field(
            "Step",
            "Sides are multiples of it. Smaller steps crop less, but make more and smaller buckets.",
            unit="px",
            detail="expert",
            ge=8,
            le=512,
            multiple_of=8,
        ),
    ] = 64
    upscale: Annotated[
        bool,
        field(
            "Enlarge small pictures",
            "Bring pictures of a smaller area than the resolution's up to it. Without, they keep their size, "
            "and the sides above do not count.",
            detail="advanced",
        ),
    ] = True

    def __post_init__(self) -> None:
        problems = []
        if self.min_side > self.max_side:
            problems.append(("min_side", f"is above `max_side`, {self.max_side}"))
        problems += [
            (name, f"is no multiple of `step`, {self.step}")
            for name, size in (("min_side", self.min_side), ("max_side", self.max_side))
            if size % self.step
        ]
        if problems:
            raise Contradiction(*problems)
