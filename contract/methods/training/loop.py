"""`[training]`: how long, in what portions, and from which seed."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction


class Training(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """How long, in what portions, and from which seed. A step is one update by the optimizer, for
    `batch_size` × `accumulation` pictures."""

    epochs: (
        Annotated[
            int,
            field(
                "Epochs",
                "How often all pictures, with their repeats, are seen; 10 is a good start. Or give `steps`.",
                unit="epochs",
                ge=1,
                le=1_000_000,
            ),
        ]
        | None
    ) = None
    steps: (
        Annotated[
            int,
            field(
                "Steps",
                "Updates by the optimizer; 1,500 to 3,000 is usual. Or give `epochs`.",
                unit="steps",
                ge=1,
                le=100_000_000,
            ),
        ]
        | None
    ) = None
    stop_after: (
        Annotated[
            int,
            field(
                "Stop after",
                "The epoch after which the run ends, before its time: the rates are those of the whole run. "
                "Left out: it goes to its end.",
                unit="epochs",
                detail="expert",
                ge=1,
                le=1_000_000,
            ),
        ]
        | None
    ) = None
    batch_size: Annotated[
        int,
        field(
            "Batch size",
            "Pictures that are computed together. More is faster a picture, and needs more memory.",
            unit="pictures",
            ge=1,
            le=1024,
        ),
    ] = 1
    accumulation: Annotated[
        int,
        field(
            "Gradient accumulation",
            "Batches whose gradients make one step: acts as a larger batch without its memory.",
            unit="batches",
            detail="advanced",
            ge=1,
            le=4096,
        ),
    ] = 1
    max_grad_norm: Annotated[
        float,
        field(
            "Gradient clipping",
            "Gradients whose norm is larger are scaled down to it. 0: never.",
            detail="advanced",
            ge=0,
            le=1_000_000,
        ),
    ] = 1.0
    seed: Annotated[
        int,
        field(
            "Seed",
            "Of everything that is drawn by chance. The same seed and settings give the same LoRA.",
            detail="advanced",
            ge=0,
            lt=2**53,
        ),
    ] = 42

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None:
            # What begins like this may be missing in a preset.
            raise Contradiction(("epochs", "is required, or `steps`"))
        if self.epochs is not None and self.steps is not None:
            raise Contradiction(("steps", "give `epochs` or `steps`, not both"))
