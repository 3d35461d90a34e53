"""The way from noise to picture in steps: at which timesteps the model is asked, and how much of the picture
and of the noise x = a·x₀ + b·ε has at each of them and at the end, where a = 1 and b = 0.

Diffusion models have timesteps 0 … T − 1 with a = √ᾱ, b = √(1 − ᾱ). Spacings of n steps (names as in table 2
of Lin and others, "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891):

- leading: i·⌊T/n⌋ + 1, the offset being that of Stable Diffusion's published `scheduler_config.json`.
- linspace: n numbers from T − 1 to 0, fractions too; σ = b / a is interpolated between timesteps, as Karras
  and others, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv 2206.00364, do it.
- rounded: n + 1 such numbers, rounded, without the last, 0.
- trailing: T − i·T/n − 1, rounded. The only one that begins at the last timestep and ends above the first, so
  models whose last timestep is noise alone (zero terminal SNR) always have it.

A single step begins at T − 1 in all of them. Flow models have a = 1 − σ, b = σ and timesteps 1000·σ; σ goes
from 1 in equal steps, shifted to s·σ / (1 + (s − 1)·σ): Esser and others, arXiv 2403.03206, equation 23.
"""

from typing import Final, Literal, NamedTuple

import torch

Spacing = Literal["leading", "linspace", "rounded", "trailing"]

#: Timesteps of flow models, which are told 1000·σ.
FLOW_TIMESTEPS: Final = 1000
_OFFSET: Final = 1


class Share(NamedTuple):
    """Of the picture (a) and of the noise (b) in x = a·x₀ + b·ε."""

    a: float
    b: float


class Grid(NamedTuple):
    """`timesteps` are the n at which the model is asked; `shares` are of these and of the end, so n + 1."""

    timesteps: list[float]
    shares: list[Share]


def diffusion_grid(alphas_cumprod: torch.Tensor, steps: int, spacing: Spacing) -> Grid:
    """Of a model with ᾱ [T] at its timesteps."""
    kept: list[float] = alphas_cumprod.double().tolist()
    spacing = "trailing" if kept[-1] == 0 else spacing
    timesteps = [len(kept) - 1.0] if steps == 1 else _spaced(len(kept), steps, spacing)
    return Grid(timesteps, [*(_share(kept, each) for each in timesteps), Share(1.0, 0.0)])


def flow_grid(steps: int, shift: float = 1.0) -> Grid:
    """Of a model of flows."""
    straight = [1 - index / steps for index in range(steps)]
    sigmas = [shift * each / (1 + (shift - 1) * each) for each in straight]
    return Grid(
        [FLOW_TIMESTEPS * each for each in sigmas],
        [*(Share(1 - each, each) for each in sigmas), Share(1.0, 0.0)],
    )


def _spaced(count: int, steps: int, spacing: Spacing) -> list[float]:
    last = count - 1
    match spacing:
        case "leading":
            first = [index * (count // steps) + _OFFSET for index in reversed(range(steps))]
            return [float(min(each, last)) for each in first]
        case "linspace":
            return [last * index / (steps - 1) for index in reversed(range(steps))]
        case "rounded":
            return [float(round(last * index / steps)) for index in range(steps, 0, -1)]
        case "trailing":
            return [float(max(0, round(count - index * count / steps) - 1)) for index in range(steps)]


def _share(kept: list[float], timestep: float) -> Share:
    below = int(timestep)
    fraction = timestep - below
    if fraction == 0:
        return Share(kept[below] ** 0.5, (1 - kept[below]) ** 0.5)
    sigma = (1 - fraction) * _sigma(kept[below]) + fraction * _sigma(kept[below + 1])
    a = (1 + sigma**2) ** -0.5
    return Share(a, sigma * a)


def _sigma(kept: float) -> float:
    return float(((1 - kept) / kept) ** 0.5)
