"""What an error costs, number by number."""

from typing import Protocol

import torch

from trainer.objective.huber import HuberSchedule, SnrHuber
from trainer.objective.shapes import beside


class Loss(Protocol):
    """A cost for each number of an error e = prediction − target."""

    def of(self, error: torch.Tensor, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        """Float32 like `error` [b, …]; `snr` and `way` (see Process) are float64 [b]."""


class L2:
    """e²."""

    def of(self, error: torch.Tensor, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        return error**2


class L1:
    """|e|."""

    def of(self, error: torch.Tensor, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        return error.abs()


class Huber:
    """2·δ·(√(e² + δ²) − δ): e² near 0, 2·δ·|e| far from it.

    Source: the pseudo-Huber loss of Charbonnier and others (ICIP 1994) with the factor 2·δ of `loss_type =
    "huber"` of the reference trainer; Khrapov and others, arXiv 2403.16728.
    """

    def __init__(self, schedule: HuberSchedule | None = None) -> None:
        self.schedule = schedule or SnrHuber()

    def of(self, error: torch.Tensor, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        threshold = beside(self.schedule.thresholds(snr, way), error)
        return 2 * threshold * _bowl(error, threshold)


class SmoothL1:
    """2·(√(e² + δ²) − δ): e² / δ near 0, 2·|e| far from it.

    Source: `loss_type = "smooth_l1"` of the reference trainer, the Huber loss divided by δ.
    """

    def __init__(self, schedule: HuberSchedule | None = None) -> None:
        self.schedule = schedule or SnrHuber()

    def of(self, error: torch.Tensor, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        return 2 * _bowl(error, beside(self.schedule.thresholds(snr, way), error))


def _bowl(error: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """√(e² + δ²) − δ, as e² / (√(e² + δ²) + δ): a difference of near numbers loses small errors."""
    square = error**2
    return square / ((square + threshold**2).sqrt() + threshold)
