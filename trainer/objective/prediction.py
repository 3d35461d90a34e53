"""What a denoiser says of a noisy picture x = a·x₀ + b·ε: the noise, the velocity, or the flow."""

from collections.abc import Mapping
from typing import Final, Protocol

import torch


class Prediction(Protocol):
    """What the denoiser is to say. `a` and `b` are shares of picture and noise, [b, 1, …] like `clean`."""

    name: str

    def target(
        self, clean: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        """The right answer, in the shape of `clean`."""

    def gain(self, snr: torch.Tensor) -> torch.Tensor:
        """How many times its squared error is that of the picture x₀ that follows from it, at SNR = a²/b²."""


class Epsilon:
    """ε itself. With x₀ = (x − b·ε) / a, ‖Δε‖² = SNR·‖Δx₀‖².

    Source: Ho and others, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, equation 14.
    """

    name = "epsilon"

    def target(
        self, clean: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        return noise

    def gain(self, snr: torch.Tensor) -> torch.Tensor:
        return snr


class Velocity:
    """v = a·ε − b·x₀, where a² + b² = 1. With x₀ = a·x − b·v, ‖Δv‖² = ‖Δx₀‖² / b² = (SNR + 1)·‖Δx₀‖².

    Source: Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", arXiv
    2202.00512, appendix D.
    """

    name = "v"

    def target(
        self, clean: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        return a * noise - b * clean

    def gain(self, snr: torch.Tensor) -> torch.Tensor:
        return snr + 1


class Flow:
    """u = ε − x₀, where a + b = 1. With x₀ = x − b·u, ‖Δu‖² = ‖Δx₀‖² / b² = (1 + √SNR)²·‖Δx₀‖².

    Source: Lipman and others, "Flow Matching for Generative Modeling", arXiv 2210.02747; Liu and others,
    "Flow Straight and Fast", arXiv 2209.03003; in the direction of Esser and others, arXiv 2403.03206.
    """

    name = "flow"

    def target(
        self, clean: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        return noise - clean

    def gain(self, snr: torch.Tensor) -> torch.Tensor:
        return (1 + snr.sqrt()) ** 2


_ALL: Final[tuple[Prediction, ...]] = (Epsilon(), Velocity(), Flow())

#: Every prediction by its name.
PREDICTIONS: Final[Mapping[str, Prediction]] = {prediction.name: prediction for prediction in _ALL}
