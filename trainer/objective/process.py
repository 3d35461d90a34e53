"""How pictures become noise: by the steps of a schedule, or along a straight line."""

from typing import Final, Protocol

import torch

from trainer.objective.noise_schedule import NoiseSchedule
from trainer.objective.timesteps import LogitNormal, Timesteps, Uniform

#: The straight line counts from 0 to this, too, so that a family can tell its model what it wants to hear.
FLOW_TIMESTEPS: Final = 1000


class Process(Protocol):
    """From shares of the way to timesteps, and from timesteps to the shares of picture and noise."""

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Timesteps [count], on the CPU, as Loaded.predict takes them."""

    def shares(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(a, b) of x = a·x₀ + b·ε: float64 [b] each, on the CPU."""

    def way(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The share of the way from picture to noise: float64 [b], 0 … 1."""


class Diffusion:
    """a = √ᾱ_t, b = √(1 − ᾱ_t); timesteps are whole numbers, `first` ≤ t < `end`.

    Source: Ho and others, arXiv 2006.11239, equation 4; `min_timestep` and `max_timestep` of the reference
    trainer, whose `max_timestep` is never drawn either.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        timesteps: Timesteps | None = None,
        *,
        first: int = 0,
        end: int | None = None,
    ) -> None:
        self.schedule = schedule
        self.timesteps = timesteps or Uniform()
        self.first = first
        self.end = schedule.timesteps if end is None else end

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Int64 [count]."""
        shares = self.timesteps.draw(count, generator)
        # A logit-normal share may round to 1.
        return (self.first + (shares * (self.end - self.first)).long()).clamp(max=self.end - 1)

    def shares(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = self.schedule.alphas_cumprod[timesteps.cpu()]
        return kept.sqrt(), (1 - kept).sqrt()

    def way(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps.cpu().double() / self.schedule.timesteps


class StraightLine:
    """a = 1 − σ, b = σ; timesteps are 1000·σ, with `first` ≤ 1000·σ ≤ `end`.

    Source: Liu and others, arXiv 2209.03003; Esser and others, arXiv 2403.03206.
    """

    def __init__(
        self, timesteps: Timesteps | None = None, *, first: float = 0, end: float = FLOW_TIMESTEPS
    ) -> None:
        self.timesteps = timesteps or LogitNormal()
        self.first = first
        self.end = end

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Float64 [count]."""
        return self.first + self.timesteps.draw(count, generator) * (self.end - self.first)

    def shares(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = self.way(timesteps)
        return 1 - noise, noise

    def way(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps.cpu().double() / FLOW_TIMESTEPS
