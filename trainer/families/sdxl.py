"""SDXL and its derivatives: two text encoders side by side, and a U-Net that is told sizes and crops.

Podell et al., "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis" (2023), 2.1, 2.2.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from trainer.families.base import MaxTokens, Sizes
from trainer.families.text import CHUNK, joined, layer
from trainer.families.tokenizer import END
from trainer.families.unet import Encoder, UNetFamily
from trainer.families.unet_model import UNetModel

if TYPE_CHECKING:
    import torch


class SdxlModel(UNetModel):
    """A loaded SDXL."""

    def encode_text(
        self, captions: Sequence[str], *, max_tokens: MaxTokens = 75, clip_skip: int | None = None
    ) -> "dict[str, torch.Tensor]":
        """Without `clip_skip` the layers before the last, 2, as trained; never through the final norm. The
        pooled text is that of the first 75 tokens."""
        import torch

        outputs = {each: self.encoded(each, captions, max_tokens) for each in ("te1", "te2")}
        hidden = [
            joined(layer(self.text_encoders[each], output, clip_skip or 2, normed=False), max_tokens)
            for each, output in outputs.items()
        ]
        pooled: torch.Tensor = outputs["te2"].text_embeds[:: max_tokens // CHUNK]
        return {"hidden": torch.cat(hidden, dim=-1), "pooled": pooled}

    def beside(
        self, noisy: "torch.Tensor", conditions: "Mapping[str, torch.Tensor]", sizes: Sequence[Sizes]
    ) -> "dict[str, torch.Tensor] | None":
        """The pooled text, and six numbers a picture: original size, crop, target size.

        The numbers stay in fp32, whatever the model computes in: bf16 makes 1365 pixels 1368.
        """
        import torch

        numbers = [[*each.original, *each.crop, *each.target] for each in sizes]
        return {
            "text_embeds": conditions["pooled"].to(noisy.dtype),
            "time_ids": torch.tensor(numbers, dtype=torch.float32, device=noisy.device),
        }


SDXL: Final = UNetFamily(
    name="sdxl",
    encoders=(Encoder("te1", pad=END, projected=False), Encoder("te2", pad="!", projected=True)),
    model=SdxlModel,
    resolution=1024,
    conditions=("hidden", "pooled"),
    told_sizes=True,
)
