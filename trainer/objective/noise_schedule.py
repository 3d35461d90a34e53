"""How much of a picture is left at each timestep of a diffusion model."""

from typing import Final

import torch

#: Of Stable Diffusion 1 and XL: `scheduler_config.json` of their published folders.
TIMESTEPS: Final = 1000
BETA_START: Final = 0.00085
BETA_END: Final = 0.012


class NoiseSchedule:
    """ᾱ (alphas_cumprod) of every timestep: x_t = √ᾱ·x₀ + √(1 − ᾱ)·ε. Float64 [timesteps], on the CPU.

    diffusers computes its tables in float32; ours differ from them by the rounding of that, below 1e-6.
    """

    def __init__(self, alphas_cumprod: torch.Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod.to("cpu", torch.float64)

    @property
    def timesteps(self) -> int:
        """How many there are."""
        return len(self.alphas_cumprod)

    @property
    def ends_in_noise(self) -> bool:
        """Whether nothing of the picture is left at the last timestep."""
        return float(self.alphas_cumprod[-1]) == 0


def scaled_linear(
    timesteps: int = TIMESTEPS, start: float = BETA_START, end: float = BETA_END
) -> NoiseSchedule:
    """β_t = (√start + t / (T − 1)·(√end − √start))², ᾱ_t = Π_{s ≤ t} (1 − β_s).

    Source: Rombach and others, "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
    and its code; `beta_schedule = "scaled_linear"` of diffusers.
    """
    roots = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64)
    return NoiseSchedule(torch.cumprod(1 - roots**2, dim=0))


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """√ᾱ shifted so that its last value is 0, and scaled so that its first stays what it was.

    √ᾱ'_t = (√ᾱ_t − √ᾱ_T)·√ᾱ_1 / (√ᾱ_1 − √ᾱ_T).

    Source: Lin and others, "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891,
    algorithm 1. diffusers goes on from there through betas, in float32; we keep ᾱ.
    """
    roots = schedule.alphas_cumprod.sqrt()
    first, last = roots[0], roots[-1]
    return NoiseSchedule(((roots - last) * (first / (first - last))) ** 2)
