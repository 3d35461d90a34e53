"""SD1.5 and its derivatives: one text encoder, no word of sizes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from trainer.families.base import MaxTokens
from trainer.families.text import joined, layer
from trainer.families.tokenizer import END
from trainer.families.unet import Encoder, UNetFamily
from trainer.families.unet_model import UNetModel

if TYPE_CHECKING:
    import torch


class Sd15Model(UNetModel):
    """A loaded SD1.5."""

    def encode_text(
        self, captions: Sequence[str], *, max_tokens: MaxTokens = 75, clip_skip: int | None = None
    ) -> "dict[str, torch.Tensor]":
        """Without `clip_skip` the last layer, as trained; any layer goes through the final norm."""
        output = self.encoded("te1", captions, max_tokens)
        hidden = layer(self.text_encoders["te1"], output, clip_skip or 1, normed=True)
        return {"hidden": joined(hidden, max_tokens)}


SD15: Final = UNetFamily(
    name="sd15",
    encoders=(Encoder("te1", pad=END, projected=False),),
    model=Sd15Model,
    resolution=512,
    conditions=("hidden",),
)
