"""Configurations of models from their tensors, so that small and wide ones of an architecture are understood.

What tensors do not say comes from the published configuration. Numbers that have to divide a width (heads,
groups of a norm) are the published ones where they do, and else their greatest common divisor with it.
"""

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any, Final

from contract.errors import WeightsIncomplete
from trainer.families.pieces import Shape

Shapes = Mapping[str, Shape]
Config = dict[str, Any]

#: Numbers that SDXL's U-Net is told of a picture's size and crop.
SIZE_NUMBERS: Final = 6


def unet_config(published: Config, shapes: Shapes, where: str) -> Config:
    """Of a U-Net, for UNet2DConditionModel. Raises WeightsIncomplete."""
    size = _Sizes(shapes, where)
    levels = _count(shapes, "down_blocks.")
    channels = [size(f"down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels)]
    known = list(published["attention_head_dim"])
    heads = [*known, *known[-1:] * levels][:levels]
    return {
        **published,
        "in_channels": size("conv_in.weight", 1),
        "out_channels": size("conv_out.weight", 0),
        "block_out_channels": channels,
        "down_block_types": [_kind(shapes, "down", level) for level in range(levels)],
        "up_block_types": [_kind(shapes, "up", level) for level in range(levels)],
        "layers_per_block": _count(shapes, "down_blocks.0.resnets."),
        "transformer_layers_per_block": _depths(shapes, levels),
        "attention_head_dim": [gcd(*pair) for pair in zip(heads, channels, strict=True)],
        "norm_num_groups": gcd(published["norm_num_groups"], *channels),
        "use_linear_projection": len(shapes.get("mid_block.attentions.0.proj_in.weight", ())) == 2,
        "cross_attention_dim": size("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1),
    }


def vector_config(shapes: Shapes, pooled: int, where: str) -> Config:
    """What a U-Net that is told sizes has besides: `pooled` is how wide the text beside them is."""
    vector = _Sizes(shapes, where)("add_embedding.linear_1.weight", 1)
    return {
        "projection_class_embeddings_input_dim": vector,
        "addition_time_embed_dim": max(vector - pooled, 0) // SIZE_NUMBERS,
    }


def vae_config(published: Config, shapes: Shapes, where: str) -> Config:
    """Of a VAE, for AutoencoderKL. Raises WeightsIncomplete."""
    size = _Sizes(shapes, where)
    levels = _count(shapes, "encoder.down_blocks.")
    channels = [size(f"encoder.down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels)]
    return {
        **published,
        "down_block_types": published["down_block_types"][:1] * levels,
        "up_block_types": published["up_block_types"][:1] * levels,
        "block_out_channels": channels,
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets."),
        "latent_channels": size("decoder.conv_in.weight", 1),
        "norm_num_groups": gcd(published["norm_num_groups"], *channels),
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def clip_config(published: Config, shapes: Shapes, where: str) -> Config:
    """Of a text encoder whose names have the level `text_model.`, for CLIPTextConfig. Raises
    WeightsIncomplete."""
    size = _Sizes(shapes, where)
    words = "text_model.embeddings.token_embedding.weight"
    width = size(words, 1)
    projected = shapes.get("text_projection.weight", (width,))
    return {
        **published,
        "vocab_size": size(words, 0),
        "hidden_size": width,
        "intermediate_size": size("text_model.encoder.layers.0.mlp.fc1.weight", 0),
        "num_hidden_layers": _count(shapes, "text_model.encoder.layers."),
        "num_attention_heads": gcd(published["num_attention_heads"], width),
        "projection_dim": projected[0],
        "max_position_embeddings": size("text_model.embeddings.position_embedding.weight", 0),
    }


class _Sizes:
    """Sizes of tensors, which have to be there."""

    def __init__(self, shapes: Shapes, where: str) -> None:
        self._shapes = shapes
        self._where = where

    def __call__(self, name: str, axis: int) -> int:
        shape: Sequence[int] = self._shapes.get(name, ())
        if len(shape) <= axis or shape[axis] < 1:
            raise WeightsIncomplete(
                f"`{self._where}` is not whole: it has nothing for `{name}`.",
                where=self._where,
                details={"key": name},
            )
        return shape[axis]


def _count(shapes: Shapes, beginning: str) -> int:
    """How many numbers follow a beginning: one more than the highest."""
    cut = len(beginning)
    numbers = {name[cut:].partition(".")[0] for name in shapes if name.startswith(beginning)}
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def _kind(shapes: Shapes, side: str, level: int) -> str:
    attends = f"{side}_blocks.{level}.attentions.0.proj_in.weight" in shapes
    return f"{'CrossAttn' if attends else ''}{side.capitalize()}Block2D"


def _depths(shapes: Shapes, levels: int) -> list[int]:
    """Transformer layers by level. diffusers takes those of the middle from the last level."""
    depths = [_layers(shapes, f"down_blocks.{level}") for level in range(levels)]
    if depths and not depths[-1]:
        depths[-1] = _layers(shapes, "mid_block")
    return [max(depth, 1) for depth in depths]


def _layers(shapes: Shapes, block: str) -> int:
    return _count(shapes, f"{block}.attentions.0.transformer_blocks.")
