"""FLUX.1, Chroma and FLUX.2.

Facts: `convert_flux_transformer_checkpoint_to_diffusers`, `convert_chroma_…` and `convert_flux2_…` of
diffusers for names and rows; numbers of the published configurations. Kohya names are those of sd-scripts
(FLUX.1, Chroma) and musubi-tuner (FLUX.2): paths of the original code.
"""

from collections.abc import Iterator
from typing import Final

from trainer.weights.names.clip import transformers_clip
from trainer.weights.names.component import denoiser, text_encoder
from trainer.weights.names.family import Family, under
from trainer.weights.names.language import T5_XXL, t5, t5_weights
from trainer.weights.names.published_text import CLIP_L, transformers_clip_weights
from trainer.weights.names.rules import Rule, Table, always, numbered, with_mlp
from trainer.weights.names.site import Shape

_BLOCKS: Final = numbered({"double_blocks": "DOUBLE", "single_blocks": "SINGLE"})


def _double(original: str, diffusers: str) -> tuple[Rule, ...]:
    """The attention and feed-forward of one stream. `original` is img or txt."""
    q, k, v, out = {
        "img": ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        "txt": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    }[original]
    before, there = f"double_blocks.*.{original}", "transformer_blocks.*."
    return (
        Rule(f"{before}_attn.qkv", (there + q, there + k, there + v), "attention", "3d d"),
        Rule(f"{before}_attn.proj", (there + out,), "attention", "d d"),
        Rule(f"{before}_mlp.0", (f"{there}{diffusers}_in",), "feed_forward", "f d"),
        Rule(f"{before}_mlp.2", (f"{there}{diffusers}_out",), "feed_forward", "d m"),
    )


def _flux1_double(original: str, diffusers: str) -> tuple[Rule, ...]:
    names = {f"{diffusers}_in": f"{diffusers}.net.0.proj", f"{diffusers}_out": f"{diffusers}.net.2"}
    return tuple(
        rule._replace(diffusers=tuple(_renamed(path, names) for path in rule.diffusers))
        for rule in _double(original, diffusers)
    )


def _renamed(path: str, names: dict[str, str]) -> str:
    before, _, last = path.rpartition(".")
    return f"{before}.{names.get(last, last)}"


def _embedder(name: str, diffusers: str, columns: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{name}.in_layer", (f"{diffusers}.linear_1",), "time", f"d {columns}"),
        Rule(f"{name}.out_layer", (f"{diffusers}.linear_2",), "time", "d d"),
    )


_SINGLE: Final = "single_transformer_blocks.*."
_FLUX1_SHARED: Final = (
    *_flux1_double("img", "ff"),
    *_flux1_double("txt", "ff_context"),
    Rule(
        "single_blocks.*.linear1",
        (*(f"{_SINGLE}attn.to_{part}" for part in "qkv"), f"{_SINGLE}proj_mlp"),
        "attention",
        "l d",
        with_mlp,
    ),
    Rule("single_blocks.*.linear2", (f"{_SINGLE}proj_out",), "attention", "d o"),
    Rule("img_in", ("x_embedder",), "embedding", "d 64"),
    Rule("txt_in", ("context_embedder",), "embedding", "d 4096"),
    Rule("final_layer.linear", ("proj_out",), "other", "64 d"),
)
_FLUX1: Final = Table(
    (
        *_FLUX1_SHARED,
        Rule("double_blocks.*.img_mod.lin", ("transformer_blocks.*.norm1.linear",), "other", "6d d"),
        Rule("double_blocks.*.txt_mod.lin", ("transformer_blocks.*.norm1_context.linear",), "other", "6d d"),
        Rule("single_blocks.*.modulation.lin", (f"{_SINGLE}norm.linear",), "other", "3d d"),
        *_embedder("time_in", "time_text_embed.timestep_embedder", "256"),
        *_embedder("vector_in", "time_text_embed.text_embedder", "768"),
        *_embedder("guidance_in", "time_text_embed.guidance_embedder", "256"),
        Rule("final_layer.adaLN_modulation.1", ("norm_out.linear",), "other", "2d d", swapped=always),
    ),
    _BLOCKS,
)
_CHROMA: Final = Table(
    (
        *_FLUX1_SHARED,
        Rule("distilled_guidance_layer.in_proj", ("distilled_guidance_layer.in_proj",), "other", "g 64"),
        Rule("distilled_guidance_layer.out_proj", ("distilled_guidance_layer.out_proj",), "other", "d g"),
        Rule(
            "distilled_guidance_layer.layers.*.in_layer",
            ("distilled_guidance_layer.layers.*.linear_1",),
            "other",
            "g g",
        ),
        Rule(
            "distilled_guidance_layer.layers.*.out_layer",
            ("distilled_guidance_layer.layers.*.linear_2",),
            "other",
            "g g",
        ),
    ),
    _BLOCKS,
)
_FLUX2: Final = Table(
    (
        *(_double("img", "ff.linear")),
        *(_double("txt", "ff_context.linear")),
        Rule("single_blocks.*.linear1", (f"{_SINGLE}attn.to_qkv_mlp_proj",), "attention", "l d"),
        Rule("single_blocks.*.linear2", (f"{_SINGLE}attn.to_out",), "attention", "d o"),
        Rule("img_in", ("x_embedder",), "embedding", "d 128"),
        Rule("txt_in", ("context_embedder",), "embedding", "d t"),
        *_embedder("time_in", "time_guidance_embed.timestep_embedder", "256"),
        *_embedder("guidance_in", "time_guidance_embed.guidance_embedder", "256"),
        *(
            Rule(f"{name}.lin", (f"{name}.linear",), "other", shape)
            for name, shape in (
                ("double_stream_modulation_img", "6d d"),
                ("double_stream_modulation_txt", "6d d"),
                ("single_stream_modulation", "3d d"),
            )
        ),
        Rule("final_layer.linear", ("proj_out",), "other", "128 d"),
        Rule("final_layer.adaLN_modulation.1", ("norm_out.linear",), "other", "2d d", swapped=always),
    ),
    _BLOCKS,
)

_FLUX1_SIZES: Final = {"d": 3072, "f": 12288, "m": 12288, "l": 21504, "o": 15360, "g": 5120}


def _flux1() -> Iterator[tuple[str, Shape]]:
    yield from _FLUX1.published({"double_blocks.": 19, "single_blocks.": 38}, _FLUX1_SIZES)
    yield from under("text_encoders.clip_l.transformer.", transformers_clip_weights(CLIP_L))
    yield from under("text_encoders.t5xxl.transformer.", t5_weights(T5_XXL))


def _chroma() -> Iterator[tuple[str, Shape]]:
    counts = {"double_blocks.": 19, "single_blocks.": 38, "distilled_guidance_layer.layers.": 5}
    yield from _CHROMA.published(counts, _FLUX1_SIZES)
    yield from under("text_encoders.t5xxl.transformer.", t5_weights(T5_XXL))


def _flux2(double: int, single: int, width: int, text: int) -> Iterator[tuple[str, Shape]]:
    """The feed-forward is three times the width, and gated: its first layer is twice as wide."""
    sizes = {"d": width, "f": 6 * width, "m": 3 * width, "l": 9 * width, "o": 4 * width, "t": text}
    yield from _FLUX2.published({"double_blocks.": double, "single_blocks.": single}, sizes)


def _klein(double: int, single: int, width: int, text: int) -> Iterator[tuple[str, Shape]]:
    """The smaller models are given no guidance."""
    weights = _flux2(double, single, width, text)
    return ((key, shape) for key, shape in weights if not key.startswith("guidance_in."))


FLUX1_NAMES: Final = Family(
    id="flux1",
    components=(
        denoiser(_FLUX1.layout, peft="transformer"),
        text_encoder("te1", called="clip_l", peft="text_encoder", layout=transformers_clip),
        text_encoder("te3", called="t5xxl", peft="text_encoder_2", layout=t5),
    ),
    published={"dev": _flux1},
)
CHROMA_NAMES: Final = Family(
    id="chroma",
    components=(
        denoiser(_CHROMA.layout, peft="transformer"),
        text_encoder("te3", called="t5xxl", peft="text_encoder", layout=t5),
    ),
    published={"chroma1": _chroma},
)
FLUX2_NAMES: Final = Family(
    id="flux2",
    components=(denoiser(_FLUX2.layout, peft="transformer"),),
    published={
        "dev": lambda: _flux2(8, 48, 6144, 15360),
        "klein-9b": lambda: _klein(8, 24, 4096, 12288),
        "klein-4b": lambda: _klein(5, 20, 3072, 7680),
    },
)
