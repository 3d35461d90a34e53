"""Which timesteps are trained: shares of the way from picture to noise, drawn for each picture of a batch."""

from collections.abc import Mapping
from typing import Final, Protocol

import torch


class Timesteps(Protocol):
    """A distribution over the shares 0 (picture) … 1 (noise)."""

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Float64 [count], on the CPU, whatever device trains: a seed means the same everywhere."""


class Uniform:
    """Every share as often as any other, then shifted.

    Source: Ho and others, arXiv 2006.11239, algorithm 1.
    """

    def __init__(self, shift: float = 1.0) -> None:
        self.shift = shift

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return shifted(torch.rand(count, dtype=torch.float64, generator=generator), self.shift)


class LogitNormal:
    """1 / (1 + exp(−(mean + deviation·n))), n normal: the middle of the way more often; then shifted.

    Source: Esser and others, "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
    arXiv 2403.03206, section 3.1; `sigmoid` and `shift` of the reference trainer.
    """

    def __init__(self, mean: float = 0.0, deviation: float = 1.0, shift: float = 1.0) -> None:
        self.mean = mean
        self.deviation = deviation
        self.shift = shift

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        normal = torch.randn(count, dtype=torch.float64, generator=generator)
        return shifted(torch.sigmoid(self.mean + self.deviation * normal), self.shift)


def shifted(shares: torch.Tensor, shift: float) -> torch.Tensor:
    """s·u / (1 + (s − 1)·u): more noise for s > 1, as larger pictures need; 1 changes nothing.

    Source: Esser and others, arXiv 2403.03206, equation 23.
    """
    return shift * shares / (1 + (shift - 1) * shares)


#: Every distribution by its name.
TIMESTEPS: Final[Mapping[str, type[Timesteps]]] = {"uniform": Uniform, "logit_normal": LogitNormal}
