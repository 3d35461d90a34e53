"""`[data]`: what becomes of the pictures and their texts."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field
from contract.methods.training.buckets import Buckets
from contract.methods.training.captions import Captions
from contract.validation import Contradiction


class TrainData(Strict, frozen=True, kw_only=True):
    """What becomes of the pictures and their texts; a subset may have its own way."""

    resolution: (
        Annotated[
            int,
            field(
                "Resolution",
                "Side of the square whose area pictures are brought to. Left out: 512 for SD1.5, 1024 for "
                "SDXL.",
                unit="px",
                ge=64,
                le=8192,
                multiple_of=8,
            ),
        ]
        | None
    ) = None
    flip: Annotated[
        bool,
        field(
            "Flip",
            "Mirror pictures left to right by chance. Wrong where the sides differ, as with a scar or a "
            "text.",
            detail="advanced",
        ),
    ] = False
    random_crop: Annotated[
        bool,
        field(
            "Random crop",
            "Crop at another place each time instead of the middle; latents are then encoded in every step.",
            detail="advanced",
        ),
    ] = False
    bad_images: Annotated[
        Literal["refuse", "skip"],
        field(
            "Broken pictures",
            "What becomes of the job where a picture cannot be read: refuse it before the first step, or go "
            "on without the picture and name it at the end.",
            detail="advanced",
        ),
    ] = "refuse"
    captions: Annotated[Captions, field("Captions", "Where texts are found and how they vary.")] = Captions()
    buckets: Annotated[
        Buckets, field("Buckets", "Sizes for other shapes than square.", detail="advanced")
    ] = Buckets()

    def __post_init__(self) -> None:
        if self.resolution is not None and (problem := _problem(self.resolution, self.buckets)) is not None:
            raise Contradiction(("resolution", problem))


def _problem(resolution: int, buckets: Buckets) -> str | None:
    """Why there is no bucket for a square of that side."""
    if not buckets.enabled:
        return None
    if resolution < buckets.step:
        return f"is below `buckets.step`, {buckets.step}"
    if buckets.upscale and resolution < buckets.min_side:
        return f"is below `buckets.min_side`, {buckets.min_side}"
    if buckets.upscale and resolution > buckets.max_side:
        return f"is above `buckets.max_side`, {buckets.max_side}"
    return None
