"""`[logging]`: what is noted down on the way."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field


class Logging(Strict, frozen=True, kw_only=True):
    """What is noted down on the way, in the run's folder and for those who watch."""

    every_steps: Annotated[
        int,
        field(
            "Metrics every so many steps",
            "Loss, rates and speed. The loss is then the mean of these steps.",
            unit="steps",
            detail="expert",
            ge=1,
            le=1_000_000,
        ),
    ] = 1
