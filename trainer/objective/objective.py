"""What training lowers: noise goes on a picture, the denoiser says what it sees, and this says how wrong."""

from typing import NamedTuple

import torch

from trainer.objective.loss import L2, Loss
from trainer.objective.noise import gaussian
from trainer.objective.prediction import Prediction
from trainer.objective.process import Process
from trainer.objective.shapes import beside
from trainer.objective.weighting import Even, Weighting


class Draw(NamedTuple):
    """What a batch became. Pictures are float32 [b, c, h, w] on the device of the clean ones."""

    timesteps: torch.Tensor  # [b], on the CPU
    noisy: torch.Tensor
    target: torch.Tensor


class Objective:
    """A process, what the denoiser says of it, what errors cost and how much each picture counts."""

    def __init__(
        self,
        process: Process,
        prediction: Prediction,
        *,
        loss: Loss | None = None,
        weighting: Weighting | None = None,
        noise_offset: float = 0.0,
    ) -> None:
        self.process = process
        self.prediction = prediction
        self.loss = loss or L2()
        self.weighting = weighting or Even()
        self.noise_offset = noise_offset

    def draw(self, clean: torch.Tensor, generator: torch.Generator) -> Draw:
        """Timesteps, then noise, from a generator of the CPU that belongs to this batch alone.

        `clean`: latents [b, c, h, w] of any type of floats.
        """
        timesteps = self.process.draw(len(clean), generator)
        noise = gaussian(clean.shape, generator, self.noise_offset)
        return self.at(clean, noise.to(clean.device), timesteps)

    def at(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> Draw:
        """The same with noise and timesteps that are given, as a fixed evaluation has them."""
        a, b = (beside(share, clean) for share in self.process.shares(timesteps))
        picture = clean.float()
        return Draw(timesteps, a * picture + b * noise, self.prediction.target(picture, noise, a, b))

    def losses(self, said: torch.Tensor, draw: Draw) -> torch.Tensor:
        """The weighted mean cost of each picture: float32 [b]. `said`: what the denoiser predicted."""
        snr, way = self.snr(draw.timesteps), self.process.way(draw.timesteps)
        costs = self.loss.of(said.float() - draw.target, snr, way).flatten(1).mean(1)
        return costs * beside(self.weighting.weights(snr), costs)

    def snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        """a²/b², float64 [b]: 0 where no picture is left, infinite where there is no noise."""
        a, b = self.process.shares(timesteps)
        return (a / b) ** 2
