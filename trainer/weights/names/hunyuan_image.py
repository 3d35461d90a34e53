"""HunyuanImage 2.1.

Facts: `convert_hunyuan_image_to_diffusers.py` of diffusers for names, rows and halves; numbers of the
published configuration. Kohya names are those of sd-scripts, paths of the published file. ComfyUI calls the
same modules otherwise (`_comfy`), and files made for it have its names as keys.
"""

from collections.abc import Iterator
from typing import Final

from trainer.weights.names.component import denoiser
from trainer.weights.names.family import Family
from trainer.weights.names.rules import Rule, Table, always, numbered, with_mlp
from trainer.weights.names.site import Shape

_THERE: Final = "transformer_blocks.*."
_SINGLE: Final = "single_transformer_blocks.*."
_REFINER: Final = "txt_in.individual_token_refiner.blocks.*."
_REFINER_THERE: Final = "context_embedder.token_refiner.refiner_blocks.*."
#: What ComfyUI puts in place of the names of the published file.
_COMFY: Final = (
    ("txt_in.c_embedder.linear_1", "txt_in.c_embedder.in_layer"),
    ("txt_in.c_embedder.linear_2", "txt_in.c_embedder.out_layer"),
    ("txt_in.t_embedder.mlp.0", "txt_in.t_embedder.in_layer"),
    ("txt_in.t_embedder.mlp.2", "txt_in.t_embedder.out_layer"),
    ("_in.mlp.0", "_in.in_layer"),
    ("_in.mlp.2", "_in.out_layer"),
    ("_attn_qkv", "_attn.qkv"),
    ("_attn_proj", "_attn.proj"),
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.2"),
    ("mod.linear", "mod.lin"),
    ("modulation.linear", "modulation.lin"),
)


def _comfy(name: str) -> str:
    for old, new in _COMFY:
        name = name.replace(old, new)
    return name


def _double(stream: str, qkv: str, out: str, forward: str, norm: str) -> Iterator[Rule]:
    at = f"double_blocks.*.{stream}_"
    parts = tuple(f"{_THERE}attn.{qkv.format(part)}" for part in "qkv")
    yield Rule(f"{at}attn_qkv", parts, "attention", "3d d")
    yield Rule(f"{at}attn_proj", (f"{_THERE}attn.{out}",), "attention", "d d")
    yield Rule(f"{at}mlp.fc1", (f"{_THERE}{forward}.net.0.proj",), "feed_forward", "4d d")
    yield Rule(f"{at}mlp.fc2", (f"{_THERE}{forward}.net.2",), "feed_forward", "d 4d")
    yield Rule(f"{at}mod.linear", (f"{_THERE}{norm}.linear",), "other", "6d d")


def _single() -> Iterator[Rule]:
    at = "single_blocks.*."
    parts = (*(f"{_SINGLE}attn.to_{part}" for part in "qkv"), f"{_SINGLE}proj_mlp")
    yield Rule(f"{at}linear1", parts, "attention", "7d d", with_mlp)
    yield Rule(f"{at}linear2", (f"{_SINGLE}proj_out",), "attention", "d 5d")
    yield Rule(f"{at}modulation.linear", (f"{_SINGLE}norm.linear",), "other", "3d d")


def _refiner() -> Iterator[Rule]:
    there = _REFINER_THERE
    parts = tuple(f"{there}attn.to_{part}" for part in "qkv")
    yield Rule(f"{_REFINER}self_attn_qkv", parts, "attention", "3d d")
    yield Rule(f"{_REFINER}self_attn_proj", (f"{there}attn.to_out.0",), "attention", "d d")
    yield Rule(f"{_REFINER}mlp.fc1", (f"{there}ff.net.0.proj",), "feed_forward", "4d d")
    yield Rule(f"{_REFINER}mlp.fc2", (f"{there}ff.net.2",), "feed_forward", "d 4d")
    yield Rule(f"{_REFINER}adaLN_modulation.1", (f"{there}norm_out.linear",), "other", "2d d")


def _ends() -> Iterator[Rule]:
    embedders = (
        ("time_in.mlp", "time_guidance_embed.timestep_embedder"),
        ("time_r_in.mlp", "time_guidance_embed.timestep_embedder_r"),
        ("guidance_in.mlp", "time_guidance_embed.guidance_embedder"),
        ("txt_in.t_embedder.mlp", "context_embedder.time_text_embed.timestep_embedder"),
    )
    for name, there in embedders:
        yield Rule(f"{name}.0", (f"{there}.linear_1",), "time", "d 256")
        yield Rule(f"{name}.2", (f"{there}.linear_2",), "time", "d d")
    text = "context_embedder.time_text_embed.text_embedder"
    yield Rule("txt_in.c_embedder.linear_1", (f"{text}.linear_1",), "embedding", "d d")
    yield Rule("txt_in.c_embedder.linear_2", (f"{text}.linear_2",), "embedding", "d d")
    yield Rule("txt_in.input_embedder", ("context_embedder.proj_in",), "embedding", "d d")
    yield Rule("img_in.proj", ("x_embedder.proj",), "conv", "d 64 1 1")
    for number, shape in ((1, "2048 1472"), (2, "2048 2048"), (3, "d 2048")):
        yield Rule(f"byt5_in.fc{number}", (f"context_embedder_2.linear_{number}",), "embedding", shape)
    yield Rule("final_layer.linear", ("proj_out",), "other", "64 d")
    yield Rule("final_layer.adaLN_modulation.1", ("norm_out.linear",), "other", "2d d", swapped=always)


_HUNYUAN_IMAGE: Final = Table(
    [
        rule._replace(generic=_comfy(rule.name))
        for rule in (
            *_double("img", "to_{}", "to_out.0", "ff", "norm1"),
            *_double("txt", "add_{}_proj", "to_add_out", "ff_context", "norm1_context"),
            *_single(),
            *_refiner(),
            *_ends(),
        )
    ],
    numbered(
        {
            "double_blocks": "DOUBLE",
            "single_blocks": "SINGLE",
            "txt_in.individual_token_refiner.blocks": "REFINER",
        }
    ),
)


def _hunyuan_image() -> Iterator[tuple[str, Shape]]:
    counts = {"double_blocks.": 20, "single_blocks.": 40, "txt_in.individual_token_refiner.blocks.": 2}
    yield from _HUNYUAN_IMAGE.published(counts, {"d": 3584})


HUNYUAN_IMAGE_NAMES: Final = Family(
    id="hunyuan_image",
    components=(denoiser(_HUNYUAN_IMAGE.layout, peft="transformer"),),
    published={"2.1": _hunyuan_image},
)
