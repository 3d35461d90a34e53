"""What a model was trained to undo, and a picture's latents made by it."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from contract.errors import InvalidParams
from contract.methods.training import sampling
from trainer.sampling.estimate import ESTIMATES
from trainer.sampling.grid import Grid, diffusion_grid, flow_grid
from trainer.sampling.samplers import SAMPLERS

#: What the model says of x at a timestep, in the shape of x.
Predict = Callable[[torch.Tensor, float], torch.Tensor]


class Process(NamedTuple):
    """`prediction` is epsilon, v or flow; `alphas_cumprod` is ᾱ [T], of models of noise and velocity; `shift`
    is that of models of flows."""

    prediction: str
    alphas_cumprod: torch.Tensor | None = None
    shift: float = 1.0

    def grid(self, sampler: sampling.Sampler, steps: int) -> Grid:
        """Raises InvalidParams where the sampler is not defined for such a model."""
        kind = SAMPLERS[sampler]
        if self.alphas_cumprod is not None:
            return diffusion_grid(self.alphas_cumprod, steps, kind.spacing)
        if kind.flow:
            return flow_grid(steps, self.shift)
        others = ", ".join(name for name, each in SAMPLERS.items() if each.flow)
        raise InvalidParams(
            f"The sampler `{sampler}` is not defined for models of flows; these are: {others}.",
            where="$.params.settings.sampling.sampler",
        )


def make_latents(
    process: Process,
    sampler: sampling.Sampler,
    steps: int,
    draw: Callable[[], torch.Tensor],
    predict: Predict,
) -> torch.Tensor:
    """Latents, scaled as the model knows them. `draw` gives noise in their shape, first that to begin with.

    Raises InvalidParams where the sampler is not defined for such a model, and what `predict` raises.
    """
    grid = process.grid(sampler, steps)
    kind, estimate = SAMPLERS[sampler], ESTIMATES[process.prediction]
    solver = kind.solver()
    x = draw() * (1.0 if kind.starts_full else grid.shares[0].b)
    for timestep, now, then in zip(grid.timesteps, grid.shares, grid.shares[1:], strict=False):
        said = estimate(x, predict(x, timestep), now)
        x = solver.step(x, said, now, then, draw)
    return x
