"""Samplers: how x = a·x₀ + b·ε becomes x' = a'·x₀ + b'·ε, given what the model says of x.

All are written in a and b, so each serves models of noise, velocity and flow alike, where its source does. In
σ = b / a, which sources use, x / a = x₀ + σ·ε.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import torch

from contract.methods.training import sampling
from trainer.sampling.estimate import Estimate
from trainer.sampling.grid import Share, Spacing

#: New noise, in the shape of x.
Draw = Callable[[], torch.Tensor]


class Solver(Protocol):
    """Made anew for each picture, as it may remember steps."""

    def step(self, x: torch.Tensor, said: Estimate, now: Share, then: Share, draw: Draw) -> torch.Tensor:
        """x at `then`, given x at `now`."""


class Sampler(NamedTuple):
    """`starts_full`: the first x is noise of variance 1; otherwise that of b² at the first timestep, which is
    less. `flow`: whether it is defined for models of flows."""

    spacing: Spacing
    starts_full: bool
    flow: bool
    solver: Callable[[], Solver]


class Straight:
    """x' = a'·x₀ + b'·ε.

    With its spacing this is DDIM with η = 0 (Song and others, "Denoising Diffusion Implicit Models", arXiv
    2010.02502, equation 12); in σ it is Euler's step x/a + (σ' − σ)·ε (Karras and others, arXiv 2206.00364,
    algorithm 1 without churn), and for flows x + (σ' − σ)·u (Liu and others, arXiv 2209.03003).
    """

    def step(self, x: torch.Tensor, said: Estimate, now: Share, then: Share, draw: Draw) -> torch.Tensor:
        return then.a * said.clean + then.b * said.noise


class Ancestral:
    """Euler's step to a smaller σ than the next, σ↓, and new noise that makes up for it, σ↑:
    σ↑² = σ'²·(1 − (σ'/σ)²), σ↓² = σ'² − σ↑², x'/a' = x₀ + σ↓·ε + σ↑·n.

    Source: `get_ancestral_step` with η = 1 and `sample_euler_ancestral` of crowsonkb/k-diffusion.
    """

    def step(self, x: torch.Tensor, said: Estimate, now: Share, then: Share, draw: Draw) -> torch.Tensor:
        if then.b == 0:
            return said.clean
        # σ'/σ, also where σ is infinite: zero terminal SNR.
        ratio = (then.b * now.a) / (then.a * now.b)
        up, down = then.b * math.sqrt(1 - ratio**2), then.b * ratio
        return then.a * said.clean + down * said.noise + up * draw()


class Multistep:
    """DPM-Solver++(2M): with λ = ln(a / b), h = λ' − λ and r = h₋₁ / h,
    D = (1 + 1/(2r))·x₀ − 1/(2r)·x₀₋₁ and x' = (b'/b)·x − a'·(e⁻ʰ − 1)·D. In the first step D = x₀, and in the
    last x' = x₀.

    Source: Lu and others, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    arXiv 2211.01095, algorithm 2.
    """

    def __init__(self) -> None:
        self._before: tuple[torch.Tensor, float] | None = None

    def step(self, x: torch.Tensor, said: Estimate, now: Share, then: Share, draw: Draw) -> torch.Tensor:
        if then.b == 0:
            return said.clean
        # e⁻ʰ; 0 where nothing of the picture is left.
        shrink = (now.a * then.b) / (now.b * then.a)
        step = math.inf if shrink == 0 else -math.log(shrink)
        data = said.clean
        if self._before is not None:
            clean, before = self._before
            weight = step / (2 * before)
            data = (1 + weight) * said.clean - weight * clean
        self._before = (said.clean, step)
        return (then.b / now.b) * x + then.a * (1 - shrink) * data


#: By the name in settings.
SAMPLERS: Final[Mapping[sampling.Sampler, Sampler]] = {
    "ddim": Sampler("leading", starts_full=True, flow=True, solver=Straight),
    "euler": Sampler("linspace", starts_full=False, flow=True, solver=Straight),
    "euler_a": Sampler("linspace", starts_full=False, flow=False, solver=Ancestral),
    "dpmpp_2m": Sampler("rounded", starts_full=True, flow=True, solver=Multistep),
}
