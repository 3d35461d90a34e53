"""Whoever watches a run: told what becomes of it, and asked what it shall do."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from contract.methods.train import TrainAction, TrainMetrics

#: `graceful` is with a checkpoint, `now` without.
Wish = Literal["graceful", "now"]
Role = Literal["lora", "lora_step", "sample", "checkpoint"]


class Made(NamedTuple):
    """A finished file, by its real path. `labels` count: `step` and `epoch` are those done, `prompt_index`
    is from 0."""

    role: Role
    path: str
    bytes: int
    sha256: str
    media_type: str
    labels: Mapping[str, int]


class Watcher(Protocol):
    """Its methods may be called from the thread of the run only, and must not block for long."""

    def progress(
        self,
        phase: str,
        done: int = 0,
        total: int | None = None,
        *,
        unit: str = "items",
        message: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Where the run stands; often."""

    def wish(self) -> Wish | None:
        """Whether somebody wants it to stop, and how."""

    def orders(self) -> list[TrainAction]:
        """What it was told to do since it was asked last."""

    def metrics(self, item: TrainMetrics) -> None:
        """The numbers of a step, or of some."""

    def made(self, made: Made) -> None:
        """A file that is whole and on the disk."""

    def log(self, level: Literal["info", "warning"], text: str) -> None:
        """A line for a person."""
