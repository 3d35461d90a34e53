"""SD3 and SD3.5.

Facts: `convert_sd3_transformer_checkpoint_to_diffusers` for names, rows and halves; numbers of the published
configurations. Kohya names are those of sd-scripts: paths of the original code.
"""

from collections.abc import Iterator
from typing import Final

from contract.rules.block_numbers import is_number
from trainer.weights.names.clip import transformers_clip
from trainer.weights.names.component import denoiser, text_encoder
from trainer.weights.names.family import Family, under
from trainer.weights.names.language import T5_XXL, t5, t5_weights
from trainer.weights.names.published_text import CLIP_G, CLIP_L, transformers_clip_weights
from trainer.weights.names.rules import Rule, Table, always, numbered
from trainer.weights.names.site import Shape

_X: Final = "joint_blocks.*.x_block."
_C: Final = "joint_blocks.*.context_block."
_T: Final = "transformer_blocks.*."


def _is_last(shape: Shape) -> bool:
    """The last context block only scales and shifts: two rows a column and not six, halves swapped."""
    return shape[0] == 2 * shape[1]


def _qkv(inner: str, q: str, k: str, v: str) -> Rule:
    return Rule(inner, (_T + q, _T + k, _T + v), "attention", "3d d")


_SD3: Final = Table(
    (
        _qkv(f"{_X}attn.qkv", "attn.to_q", "attn.to_k", "attn.to_v"),
        Rule(f"{_X}attn.proj", (f"{_T}attn.to_out.0",), "attention", "d d"),
        _qkv(f"{_C}attn.qkv", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        Rule(f"{_C}attn.proj", (f"{_T}attn.to_add_out",), "attention", "d d"),
        _qkv(f"{_X}attn2.qkv", "attn2.to_q", "attn2.to_k", "attn2.to_v"),
        Rule(f"{_X}attn2.proj", (f"{_T}attn2.to_out.0",), "attention", "d d"),
        Rule(f"{_X}mlp.fc1", (f"{_T}ff.net.0.proj",), "feed_forward", "4d d"),
        Rule(f"{_X}mlp.fc2", (f"{_T}ff.net.2",), "feed_forward", "d 4d"),
        Rule(f"{_C}mlp.fc1", (f"{_T}ff_context.net.0.proj",), "feed_forward", "4d d"),
        Rule(f"{_C}mlp.fc2", (f"{_T}ff_context.net.2",), "feed_forward", "d 4d"),
        Rule(f"{_X}adaLN_modulation.1", (f"{_T}norm1.linear",), "other", "6d d"),
        Rule(f"{_C}adaLN_modulation.1", (f"{_T}norm1_context.linear",), "other", "6d d", swapped=_is_last),
        Rule("x_embedder.proj", ("pos_embed.proj",), "conv", "d 16 2 2"),
        Rule("context_embedder", ("context_embedder",), "embedding", "d 4096"),
        Rule("t_embedder.mlp.0", ("time_text_embed.timestep_embedder.linear_1",), "time", "d 256"),
        Rule("t_embedder.mlp.2", ("time_text_embed.timestep_embedder.linear_2",), "time", "d d"),
        Rule("y_embedder.mlp.0", ("time_text_embed.text_embedder.linear_1",), "time", "d 2048"),
        Rule("y_embedder.mlp.2", ("time_text_embed.text_embedder.linear_2",), "time", "d d"),
        Rule("final_layer.linear", ("proj_out",), "other", "64 d"),
        Rule("final_layer.adaLN_modulation.1", ("norm_out.linear",), "other", "2d d", swapped=always),
    ),
    numbered({"joint_blocks": "JOINT"}),
)


def _sd3(layers: int, dual: int) -> Iterator[tuple[str, Shape]]:
    """`dual`: the first so many blocks have a second attention. The width is 64 times the layers."""
    width = 64 * layers
    for key, shape in _SD3.published({"joint_blocks.": layers}, {"d": width}):
        if (own := _own_shape(key, shape, layers, dual)) is not None:
            yield key, own
    yield from under("text_encoders.clip_l.transformer.", transformers_clip_weights(CLIP_L))
    yield from under("text_encoders.clip_g.transformer.", transformers_clip_weights(CLIP_G))
    yield from under("text_encoders.t5xxl.transformer.", t5_weights(T5_XXL))


def _own_shape(key: str, shape: Shape, layers: int, dual: int) -> Shape | None:
    """What a weight is in its block: blocks with a second attention modulate it too, and of the text only
    keys and values leave the last block. None where the block has no such weight."""
    number = key.split(".")[1]
    is_dual = is_number(number) and int(number) < dual
    if ".x_block.attn2." in key:
        return shape if is_dual else None
    if ".x_block.adaLN_modulation" in key:
        return (9 * shape[1], shape[1]) if is_dual else shape
    if ".context_block." in key and number == str(layers - 1):
        if ".adaLN_modulation" in key:
            return 2 * shape[1], shape[1]
        return shape if ".qkv" in key else None
    return shape


SD3_NAMES: Final = Family(
    id="sd3",
    components=(
        denoiser(_SD3.layout, peft="transformer"),
        text_encoder("te1", called="clip_l", peft="text_encoder", layout=transformers_clip),
        text_encoder("te2", called="clip_g", peft="text_encoder_2", layout=transformers_clip),
        text_encoder("te3", called="t5xxl", peft="text_encoder_3", layout=t5),
    ),
    published={
        "3.5-large": lambda: _sd3(38, 0),
        "3.5-medium": lambda: _sd3(24, 13),
        "3-medium": lambda: _sd3(24, 0),
    },
)
