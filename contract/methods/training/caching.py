"""`[caching]`: what is encoded once and kept for the run and for those after it."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field

#: Whether something is cached; `auto` is whenever it can be.
When = Literal["auto", "on", "off"]


class Caching(Strict, frozen=True, kw_only=True):
    """What is encoded once and kept, on disk, for the run and for those after it.

    Afterwards the encoders leave the memory. Mirrored pictures are cached beside the others, and so is the
    empty caption of caption dropout.
    """

    latents: Annotated[
        When,
        field(
            "Cache latents",
            "Encode each picture once. `auto`: those that are not cropped randomly.",
            detail="advanced",
        ),
    ] = "auto"
    text: Annotated[
        When,
        field(
            "Cache text embeddings",
            "Encode each text once. `auto`: on, unless text encoders are trained.",
            detail="advanced",
        ),
    ] = "auto"
    caption_variants: Annotated[
        int,
        field(
            "Cached texts of a picture",
            "Where tags are shuffled or dropped and texts are cached: how many different texts a picture "
            "has, one each time it is seen, then from the first again. 0: as many as it is seen.",
            unit="texts",
            detail="expert",
            ge=0,
            le=10_000,
        ),
    ] = 16
    latent_batch: Annotated[
        int,
        field(
            "Pictures at once",
            "Encoded together while caching. More is faster where there is memory. On a CPU always one, so "
            "that a run can be repeated to the byte.",
            unit="pictures",
            detail="expert",
            ge=1,
            le=256,
        ),
    ] = 1
    text_batch: Annotated[
        int,
        field(
            "Texts at once",
            "Encoded together while caching. On a CPU always one.",
            unit="texts",
            detail="expert",
            ge=1,
            le=1024,
        ),
    ] = 16
    dtype: Annotated[
        Literal["auto", "fp32", "fp16", "bf16"],
        field(
            "Type of what is cached",
            "`auto`: fp32 where the job computes in fp32, else fp16.",
            detail="expert",
        ),
    ] = "auto"
