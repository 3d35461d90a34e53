"""CLIP text encoders: the layout of transformers, and that of open_clip with its fused projections.

Facts: `convert_open_clip_checkpoint` in diffusers. Names of modules are those of transformers in each naming.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from contract.rules.block_numbers import is_number
from trainer.weights.names.site import Kind, Place, Shape

_TOP: Final = "text_model."
_LAYERS: Final = "text_model.encoder.layers."
_RESBLOCKS: Final = "transformer.resblocks."
_WEIGHT: Final = ".weight"
_INNER: Final[Mapping[str, Kind]] = {
    "self_attn.q_proj": "attention",
    "self_attn.k_proj": "attention",
    "self_attn.v_proj": "attention",
    "self_attn.out_proj": "attention",
    "mlp.fc1": "feed_forward",
    "mlp.fc2": "feed_forward",
    "layer_norm1": "norm",
    "layer_norm2": "norm",
}
_ENDS: Final[Mapping[str, Kind]] = {
    "text_model.embeddings.token_embedding": "embedding",
    "text_model.embeddings.position_embedding": "embedding",
    "text_model.final_layer_norm": "norm",
}
_FUSED: Final = "attn.in_proj_weight"
_QKV: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_OPEN_INNER: Final = {
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
_OPEN_ENDS: Final = {
    "token_embedding": "text_model.embeddings.token_embedding",
    "ln_final": "text_model.final_layer_norm",
}


def transformers_clip(weights: Mapping[str, Shape]) -> Iterator[Place]:
    """A text encoder whose keys are those of transformers; some programs leave `text_model.` out of them."""
    for weight, shape in weights.items():
        name = weight.removesuffix(_WEIGHT)
        if name == weight:
            continue
        if not name.startswith(_TOP):
            name = _TOP + name
        if name.startswith(_LAYERS):
            number, _, inner = name[len(_LAYERS) :].partition(".")
            if is_number(number) and (kind := _INNER.get(inner)) is not None:
                yield _place(weight, f"TE{int(number):02}", kind, shape, name)
        elif (kind := _ENDS.get(name)) is not None:
            yield _place(weight, "BASE", kind, shape, name)


def open_clip(weights: Mapping[str, Shape]) -> Iterator[Place]:
    """A text encoder whose keys are those of open_clip."""
    for weight, shape in weights.items():
        if weight.startswith(_RESBLOCKS):
            number, _, inner = weight[len(_RESBLOCKS) :].partition(".")
            if is_number(number):
                yield from _resblock(weight, int(number), inner, shape)
        elif (name := _OPEN_ENDS.get(weight.removesuffix(_WEIGHT))) is not None:
            yield _place(weight, "BASE", _ENDS[name], shape, name)


def penultimate_open_clip(weights: Mapping[str, Shape]) -> Iterator[Place]:
    """That of SD2, which is read before its last layer: the 24th of its file is in no program's model."""
    last = f"{_RESBLOCKS}23."
    yield from open_clip({key: shape for key, shape in weights.items() if not key.startswith(last)})


def _resblock(weight: str, number: int, inner: str, shape: Shape) -> Iterator[Place]:
    block, layer = f"TE{number:02}", f"{_LAYERS}{number}."
    if inner == _FUSED and len(shape) == 2 and shape[0] > 0 and shape[0] % 3 == 0:
        third = shape[0] // 3
        for index, name in enumerate(_QKV):
            rows = (third * index, third * (index + 1))
            yield _place(weight, block, "attention", (third, shape[1]), layer + name, rows)
    elif (found := _OPEN_INNER.get(inner.removesuffix(_WEIGHT))) is not None and inner.endswith(_WEIGHT):
        yield _place(weight, block, _INNER[found], shape, layer + found)


def _place(
    weight: str, block: str, kind: Kind, shape: Shape, name: str, rows: tuple[int, int] | None = None
) -> Place:
    return Place(weight, block, kind, shape, name, name, name, rows)
