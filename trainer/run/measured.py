"""What a run measures of itself between two rows of its metrics."""

import math
import time
from typing import NamedTuple

from contract.methods.train import TrainMetrics


class Step(NamedTuple):
    """A step of the optimizer as it was made: its number, its epoch, both counted from 1, and the norm of its
    gradients before they were clipped."""

    number: int
    epoch: int
    norm: float


class Measured:
    """What has come together since the last row. `waited`: seconds of waiting for pictures until then."""

    def __init__(self, waited: float = 0.0) -> None:
        self.waited = waited
        self.pictures = 0
        self.losses: list[float] = []
        self._at = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Time that went to files and samples is not that of steps."""
        self._at += seconds

    def row(
        self, step: Step, *, average: float, rates: dict[str, float], waited: float, memory: int | None
    ) -> TrainMetrics:
        """The row that ends here. `waited`: all seconds of waiting until now; `memory`: the peak in bytes."""
        seconds = max(time.perf_counter() - self._at, 1e-9)
        return TrainMetrics(
            step=step.number,
            epoch=step.epoch,
            loss=sum(self.losses) / len(self.losses),
            loss_average=average,
            rates=rates,
            grad_norm=step.norm if math.isfinite(step.norm) else None,
            seconds=round(seconds, 6),
            images_per_s=round(self.pictures / seconds, 4),
            data_wait=round(min(1.0, (waited - self.waited) / seconds), 5),
            memory=memory,
        )


def numbers_of(item: TrainMetrics) -> dict[str, float]:
    """What progress says of a row."""
    return {
        "loss": item.loss,
        "loss_average": item.loss_average,
        **{f"lr_{name}": rate for name, rate in item.rates.items()},
        "epoch": float(item.epoch),
        "images_per_s": item.images_per_s,
        "data_wait": item.data_wait,
        **({} if item.memory is None else {"memory": float(item.memory)}),
    }
