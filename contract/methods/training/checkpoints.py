"""`[checkpoints]`: states of the run to go on from."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction


class Checkpoints(Strict, frozen=True, kw_only=True):
    """States of the run, with everything that is needed to go on as if it had never stopped.

    They lie in the folder of the run. One is always written at the end, before a pause, and where the job is
    canceled gracefully. Files for other programs are those of `saving`.
    """

    every_minutes: Annotated[
        float,
        field("Every so many minutes", "0: never.", unit="minutes", detail="advanced", ge=0, le=100_000),
    ] = 15.0
    every_steps: Annotated[
        int,
        field("Every so many steps", "0: never.", unit="steps", detail="advanced", ge=0, le=100_000_000),
    ] = 0
    every_epochs: Annotated[
        int,
        field("Every so many epochs", "0: never.", unit="epochs", detail="advanced", ge=0, le=1_000_000),
    ] = 0
    keep_last: Annotated[
        int,
        field(
            "How many stay",
            "The newest ones; older ones go as soon as a newer one is whole.",
            unit="checkpoints",
            detail="advanced",
            ge=1,
            le=10_000,
        ),
    ] = 2
    keep_every_steps: Annotated[
        int,
        field(
            "Keep for good",
            "Those at a multiple of so many steps stay whatever their age. 0: none.",
            unit="steps",
            detail="expert",
            ge=0,
            le=100_000_000,
        ),
    ] = 0

    def __post_init__(self) -> None:
        if not self.keep_every_steps:
            return
        if not self.every_steps:
            # What begins like this may be missing in a preset.
            raise Contradiction(("every_steps", "is required by `keep_every_steps`"))
        if self.keep_every_steps % self.every_steps:
            raise Contradiction(("keep_every_steps", f"is no multiple of `every_steps`, {self.every_steps}"))
