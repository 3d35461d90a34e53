"""`[saving]`: the files of weights that the training makes."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field


class Saving(Strict, frozen=True, kw_only=True):
    """The files of weights that the training makes: one at the end, and those on the way, from which the
    best may be chosen."""

    dtype: Annotated[
        Literal["fp16", "bf16", "fp32"],
        field("Type of the numbers", "What the weights are written as.", detail="advanced"),
    ] = "fp16"
    naming: Annotated[
        Literal["kohya", "peft"],
        field(
            "Naming",
            "`kohya` (lora_unet_…), which every program reads, or `peft` (unet.… .lora_A) for diffusers.",
            detail="expert",
        ),
    ] = "kohya"
    every_epochs: Annotated[
        int,
        field(
            "Every so many epochs",
            "A file such as `NAME-000002`. 0: never.",
            unit="epochs",
            ge=0,
            le=1_000_000,
        ),
    ] = 1
    every_steps: Annotated[
        int,
        field(
            "Every so many steps",
            "A file such as `NAME-step00000500`. 0: never.",
            unit="steps",
            detail="advanced",
            ge=0,
            le=100_000_000,
        ),
    ] = 0
    keep_last: Annotated[
        int,
        field(
            "How many stay",
            "Of the files on the way the newest ones. 0: all.",
            unit="files",
            detail="advanced",
            ge=0,
            le=10_000,
        ),
    ] = 0
