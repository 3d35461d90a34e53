"""`[memory]`: what is done to need less of it."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field


class Memory(Strict, frozen=True, kw_only=True):
    """What is done to need less memory. It changes the speed, not the result."""

    gradient_checkpointing: Annotated[
        bool,
        field(
            "Gradient checkpointing",
            "Compute inner values again instead of keeping them: about a third slower, and far less memory.",
            detail="advanced",
        ),
    ] = True
