"""The noise that pictures are mixed with."""

import torch


def gaussian(shape: torch.Size, generator: torch.Generator, offset: float = 0.0) -> torch.Tensor:
    """ε + offset·η: ε normal for every number, η normal for every channel of a picture.

    Float32 [b, c, h, w] on the CPU, whatever device trains. ε is drawn first and does not depend on `offset`.

    Source: Guttenberg, "Diffusion with Offset Noise", 2023, crosslabs.org; `noise_offset` of the reference
    trainer.
    """
    noise = torch.randn(shape, generator=generator)
    if not offset:
        return noise
    flat = (*shape[:2], *(1 for _ in shape[2:]))
    return noise.add_(torch.randn(flat, generator=generator), alpha=offset)
