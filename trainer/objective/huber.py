"""Where Huber losses turn from squares to straight lines, by how noisy the picture was."""

from collections.abc import Mapping
from typing import Final, Protocol

import torch


class HuberSchedule(Protocol):
    """A threshold δ for each picture of a batch."""

    def __init__(self, c: float = 0.1, scale: float = 1.0) -> None: ...

    def thresholds(self, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        """Float64 [b], from a²/b² and the share of the way to noise (0 … 1), float64 [b] each."""


class _Huber:
    """`c` is the threshold at full noise, `scale` multiplies every threshold."""

    def __init__(self, c: float = 0.1, scale: float = 1.0) -> None:
        self.c = c
        self.scale = scale


class ConstantHuber(_Huber):
    """δ = c. Source: `huber_schedule = "constant"` of the reference trainer."""

    def thresholds(self, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        return torch.full_like(way, self.c * self.scale)


class ExponentialHuber(_Huber):
    """δ = c^(t / T): from 1 at the picture down to c at noise.

    Source: Khrapov and others, "Improving Diffusion Models's Data-Corruption Resistance using Scheduled
    Pseudo-Huber Loss", arXiv 2403.16728; `huber_schedule = "exponential"` of the reference trainer.
    """

    def thresholds(self, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        return self.scale * self.c**way


class SnrHuber(_Huber):
    """δ = (1 − c) / (1 + σ)² + c, where σ² = b²/a² = 1 / SNR.

    Source: the same; `huber_schedule = "snr"` of the reference trainer, which leaves `scale` out here alone.
    With ours, `scale` means the same in all three.
    """

    def thresholds(self, snr: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        return self.scale * ((1 - self.c) / (1 + snr.rsqrt()) ** 2 + self.c)


#: Every schedule by its name.
HUBER_SCHEDULES: Final[Mapping[str, type[HuberSchedule]]] = {
    "constant": ConstantHuber,
    "exponential": ExponentialHuber,
    "snr": SnrHuber,
}
