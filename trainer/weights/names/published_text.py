"""Keys and shapes of text encoders at their published sizes, in the layouts that single files have."""

from collections.abc import Iterator
from typing import Final

import msgspec

from trainer.weights.names.published_unet import Weight


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A CLIP text encoder. `layers` are those in its file."""

    width: int
    layers: int
    tokens: int = 49408
    positions: int = 77


CLIP_L: Final = Clip(width=768, layers=12)
CLIP_H: Final = Clip(width=1024, layers=24)
CLIP_G: Final = Clip(width=1280, layers=32)


def transformers_clip_weights(model: Clip) -> Iterator[Weight]:
    """In the layout of transformers, without biases."""
    width = model.width
    yield "text_model.embeddings.token_embedding.weight", (model.tokens, width)
    yield "text_model.embeddings.position_embedding.weight", (model.positions, width)
    for layer in range(model.layers):
        inner = f"text_model.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{inner}.self_attn.{name}.weight", (width, width)
        yield f"{inner}.mlp.fc1.weight", (width * 4, width)
        yield f"{inner}.mlp.fc2.weight", (width, width * 4)
        yield f"{inner}.layer_norm1.weight", (width,)
        yield f"{inner}.layer_norm2.weight", (width,)
    yield "text_model.final_layer_norm.weight", (width,)


def open_clip_weights(model: Clip) -> Iterator[Weight]:
    """In the layout of open_clip, where three projections are one weight, without biases."""
    width = model.width
    yield "token_embedding.weight", (model.tokens, width)
    for layer in range(model.layers):
        inner = f"transformer.resblocks.{layer}"
        yield f"{inner}.attn.in_proj_weight", (width * 3, width)
        yield f"{inner}.attn.out_proj.weight", (width, width)
        yield f"{inner}.mlp.c_fc.weight", (width * 4, width)
        yield f"{inner}.mlp.c_proj.weight", (width, width * 4)
        yield f"{inner}.ln_1.weight", (width,)
        yield f"{inner}.ln_2.weight", (width,)
    yield "ln_final.weight", (width,)
