"""A painter of a loaded model of any family, and texts that are encoded once, before the encoders go."""

from collections.abc import Iterable, Mapping

import torch

from trainer.families import Family, Loaded, MaxTokens, Sizes
from trainer.sampling.painter import Conditions, Painter, texts_of
from trainer.sampling.process import Process
from trainer.sampling.prompts import Prompt


def painter_of(
    loaded: Loaded,
    family: Family,
    process: Process,
    *,
    dtype: torch.dtype,
    device: torch.device,
    max_tokens: MaxTokens = 75,
    clip_skip: int | None = None,
) -> Painter:
    """Of a model whose denoiser lies on `device` and computes in `dtype`; samplers compute in float32.

    What the model is told of sizes is what one wants of a picture: all of it, nothing cropped.
    """

    def encode(texts: list[str], prompt: Prompt) -> Conditions:
        return loaded.encode_text(texts, max_tokens=max_tokens, clip_skip=clip_skip)

    def predict(
        latents: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions, prompt: Prompt
    ) -> torch.Tensor:
        size = (prompt.height, prompt.width)
        sizes = [Sizes(original=size, crop=(0, 0), target=size)] * len(latents)
        moved = {name: each.to(device) for name, each in conditions.items()}
        return loaded.predict(latents.to(dtype), timesteps, moved, sizes).float()

    return Painter(
        process, family.latent_channels, family.latent_scale, device, encode, predict, loaded.decode_latents
    )


@torch.no_grad()
def encoded_ahead(painter: Painter, prompts: Iterable[Prompt]) -> Painter:
    """The same painter, of these prompts only, whose texts are encoded now and kept in the CPU's memory: for
    a run that does not train its text encoders and unloads them."""
    kept: dict[tuple[str, ...], Mapping[str, torch.Tensor]] = {}
    for prompt in prompts:
        texts = texts_of(prompt)
        if tuple(texts) not in kept:
            encoded = painter.encode(texts, prompt)
            kept[tuple(texts)] = {name: each.cpu() for name, each in encoded.items()}
    return painter._replace(encode=lambda texts, prompt: kept[tuple(texts)])
