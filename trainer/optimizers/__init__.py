"""What changes the weights: a registry of optimizers, their two modes, and their state for checkpoints."""

from trainer.optimizers.kind import is_schedule_free
from trainer.optimizers.modes import evaluated
from trainer.optimizers.registry import OPTIMIZERS, kind_of, optimizer_of
from trainer.optimizers.state import restore, state_of

__all__ = [
    "OPTIMIZERS",
    "evaluated",
    "is_schedule_free",
    "kind_of",
    "optimizer_of",
    "restore",
    "state_of",
]
