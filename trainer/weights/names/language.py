"""Language models as text encoders: T5, and decoders such as Gemma 2 and Qwen 3.

Names of modules are those of transformers; sd-scripts writes them without the level `model.` of decoders.
diffusers loads adapters of none of the decoders.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from contract.rules.block_numbers import is_number
from trainer.weights.names.published_unet import Weight
from trainer.weights.names.site import Kind, Place, Shape

_WEIGHT: Final = ".weight"
_T5_BLOCK: Final = "encoder.block."
_T5_KINDS: Final[Mapping[str, Kind]] = {
    "SelfAttention": "attention",
    "DenseReluDense": "feed_forward",
    "layer_norm": "norm",
}
_LAYERS: Final = "model.layers."
_LAYER_KINDS: Final[Mapping[str, Kind]] = {"self_attn": "attention", "mlp": "feed_forward"}


class T5(msgspec.Struct, frozen=True, kw_only=True):
    """A T5 encoder with gated feed-forward."""

    width: int
    layers: int
    hidden: int
    inner: int
    tokens: int = 32128


class Decoder(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder: `query` and `key` are the widths of q and of k and v."""

    width: int
    layers: int
    hidden: int
    query: int
    key: int


T5_XXL: Final = T5(width=4096, layers=24, hidden=10240, inner=4096)
GEMMA2_2B: Final = Decoder(width=2304, layers=26, hidden=9216, query=2048, key=1024)
QWEN3_06B: Final = Decoder(width=1024, layers=28, hidden=3072, query=2048, key=1024)


def t5(weights: Mapping[str, Shape]) -> Iterator[Place]:
    """A T5 encoder."""
    for weight, shape in weights.items():
        name = weight.removesuffix(_WEIGHT)
        if name == weight or not name.startswith(_T5_BLOCK):
            continue
        number, _, inner = name[len(_T5_BLOCK) :].partition(".")
        part = inner.split(".")[2:3]
        if is_number(number) and part and (kind := _T5_KINDS.get(part[0])) is not None:
            yield Place(weight, f"TE{int(number):02}", kind, shape, name, name, name)


def decoder(weights: Mapping[str, Shape]) -> Iterator[Place]:
    """A decoder, with or without the level `model.` in its keys."""
    for weight, shape in weights.items():
        name = weight.removesuffix(_WEIGHT)
        full = name if name.startswith("model.") else f"model.{name}"
        if name == weight or not full.startswith(_LAYERS):
            continue
        number, _, inner = full[len(_LAYERS) :].partition(".")
        if is_number(number):
            kind: Kind = "norm" if len(shape) == 1 else _LAYER_KINDS.get(inner.partition(".")[0], "other")
            yield Place(weight, f"TE{int(number):02}", kind, shape, full.removeprefix("model."), None, full)


def t5_weights(model: T5) -> Iterator[Weight]:
    """Every weight inside its blocks."""
    for block in range(model.layers):
        attention = f"{_T5_BLOCK}{block}.layer.0.SelfAttention"
        for name in "qkv":
            yield f"{attention}.{name}.weight", (model.inner, model.width)
        yield f"{attention}.o.weight", (model.width, model.inner)
        forward = f"{_T5_BLOCK}{block}.layer.1.DenseReluDense"
        yield f"{forward}.wi_0.weight", (model.hidden, model.width)
        yield f"{forward}.wi_1.weight", (model.hidden, model.width)
        yield f"{forward}.wo.weight", (model.width, model.hidden)


def decoder_weights(model: Decoder) -> Iterator[Weight]:
    """Every linear weight inside its layers."""
    for layer in range(model.layers):
        inner = f"{_LAYERS}{layer}"
        yield f"{inner}.self_attn.q_proj.weight", (model.query, model.width)
        yield f"{inner}.self_attn.k_proj.weight", (model.key, model.width)
        yield f"{inner}.self_attn.v_proj.weight", (model.key, model.width)
        yield f"{inner}.self_attn.o_proj.weight", (model.width, model.query)
        yield f"{inner}.mlp.gate_proj.weight", (model.hidden, model.width)
        yield f"{inner}.mlp.up_proj.weight", (model.hidden, model.width)
        yield f"{inner}.mlp.down_proj.weight", (model.width, model.hidden)
