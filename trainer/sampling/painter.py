"""Paints the picture of a prompt, whatever the model: all that is known of it are three functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from trainer.sampling.process import Process, make_latents
from trainer.sampling.prompts import Prompt

#: What `encode` gives and `predict` takes, for as many texts as there are latents; nothing here looks inside.
Conditions = Any


class Painter(NamedTuple):
    """What is needed of a model. It must be in evaluation mode.

    - `encode(texts, prompt)`: the conditions of some texts of a prompt.
    - `predict(latents [b, c, h, w], timesteps [b], conditions, prompt)`: what the model says, in the shape
      and type of the latents, which are float32; timesteps are float32 and may be fractions.
    - `decode(latents [1, c, h, w])`: the picture [1, 3, height, width], −1 … 1.

    `latent_scale` is how many pixels one place of latents is wide; `device` is where latents live.
    """

    process: Process
    latent_channels: int
    latent_scale: int
    device: torch.device
    encode: Callable[[list[str], Prompt], Conditions]
    predict: Callable[[torch.Tensor, torch.Tensor, Conditions, Prompt], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]


class Picture(NamedTuple):
    """`pixels` [height, width, 3] are bytes on the CPU. Where the model said numbers that are none, these are
    black, and the picture is not `is_finite`."""

    pixels: torch.Tensor
    is_finite: bool


@torch.no_grad()
def paint(painter: Painter, prompt: Prompt, checked: Callable[[], None] = lambda: None) -> Picture:
    """The picture of a prompt. All random numbers come from its seed, by way of the CPU, so that it is the
    same noise on every device; no other source is touched. `checked` is called before every step, and may
    raise.

    Raises InvalidParams where the sampler is not defined for the model, and what the functions raise.
    """
    source = torch.Generator().manual_seed(prompt.seed)
    scale = painter.latent_scale
    shape = (1, painter.latent_channels, prompt.height // scale, prompt.width // scale)

    def draw() -> torch.Tensor:
        return torch.randn(shape, generator=source).to(painter.device)

    # Before the texts are encoded, which takes longer.
    painter.process.grid(prompt.sampler, prompt.steps)
    predict = _guided(painter, prompt, checked)
    latents = make_latents(painter.process, prompt.sampler, prompt.steps, draw, predict)
    return _picture(painter.decode(latents)[0].float())


def texts_of(prompt: Prompt) -> list[str]:
    """The texts that are encoded for a prompt: the negative one, where it counts, then the prompt itself."""
    return [prompt.text] if prompt.guidance == 1 else [prompt.negative, prompt.text]


def _guided(
    painter: Painter, prompt: Prompt, checked: Callable[[], None]
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """Classifier-free guidance: u + g·(c − u), of what the model says of the negative prompt (u) and of the
    prompt (c). At g = 1 that is c, and the negative prompt is not asked for.

    Source: Ho and Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598, equation 6; w = g − 1.
    """
    texts = texts_of(prompt)
    conditions = painter.encode(texts, prompt)

    def predict(x: torch.Tensor, timestep: float) -> torch.Tensor:
        checked()
        timesteps = torch.full((len(texts),), timestep, device=x.device)
        said = painter.predict(torch.cat([x] * len(texts)), timesteps, conditions, prompt)
        if len(texts) == 1:
            return said
        without, given = said.chunk(2)
        return without + prompt.guidance * (given - without)

    return predict


def _picture(decoded: torch.Tensor) -> Picture:
    is_finite = bool(torch.isfinite(decoded).all())
    bounded = decoded.nan_to_num(-1.0, 1.0, -1.0).clamp(-1, 1)
    pixels = ((bounded + 1) * 127.5).round().to(torch.uint8)
    return Picture(pixels.permute(1, 2, 0).contiguous().cpu(), is_finite)
