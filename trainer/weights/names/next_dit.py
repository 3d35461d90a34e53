"""Lumina Image 2 and Z-Image, which share the shape of their transformer (NextDiT).

Facts: `convert_lumina2_to_diffusers` and `convert_z_image_transformer_checkpoint_to_diffusers`; numbers of
the published configurations. Kohya names are those of sd-scripts (Lumina 2) and musubi-tuner (Z-Image, whose
published files are in the layout of diffusers, and so are the names of its adapters).
"""

from collections.abc import Iterator
from typing import Final

from trainer.weights.names.component import denoiser, text_encoder
from trainer.weights.names.family import Family, under
from trainer.weights.names.language import GEMMA2_2B, decoder, decoder_weights
from trainer.weights.names.rules import Rule, Table, grouped, numbered
from trainer.weights.names.site import Shape

_STACKS: Final = ("layers", "noise_refiner", "context_refiner")
_BLOCKS: Final = numbered({"layers": "LAYER", "noise_refiner": "NOISE", "context_refiner": "CONTEXT"})


def _lumina2_block(stack: str) -> Iterator[Rule]:
    at = f"{stack}.*."
    yield Rule(
        f"{at}attention.qkv",
        (f"{at}attn.to_q", f"{at}attn.to_k", f"{at}attn.to_v"),
        "attention",
        "q d",
        grouped,
    )
    yield Rule(f"{at}attention.out", (f"{at}attn.to_out.0",), "attention", "d d")
    yield Rule(f"{at}feed_forward.w1", (f"{at}feed_forward.linear_1",), "feed_forward", "f d")
    yield Rule(f"{at}feed_forward.w2", (f"{at}feed_forward.linear_2",), "feed_forward", "d f")
    yield Rule(f"{at}feed_forward.w3", (f"{at}feed_forward.linear_3",), "feed_forward", "f d")
    if stack != "context_refiner":
        yield Rule(f"{at}adaLN_modulation.1", (f"{at}norm1.linear",), "other", "4d 1024")


def _z_image_block(stack: str) -> Iterator[Rule]:
    at = f"{stack}.*."
    parts = tuple(f"{at}attention.to_{part}" for part in "qkv")
    yield Rule(f"{at}attention.qkv", parts, "attention", "3d d", parts=True)
    yield Rule(f"{at}attention.out", (f"{at}attention.to_out.0",), "attention", "d d", parts=True)
    for name, shape in (("w1", "f d"), ("w2", "d f"), ("w3", "f d")):
        path = f"{at}feed_forward.{name}"
        yield Rule(path, (path,), "feed_forward", shape)
    if stack != "context_refiner":
        yield Rule(f"{at}adaLN_modulation.0", (f"{at}adaLN_modulation.0",), "other", "4d 256")


_LUMINA2: Final = Table(
    (
        *(rule for stack in _STACKS for rule in _lumina2_block(stack)),
        Rule("x_embedder", ("x_embedder",), "embedding", "d 64"),
        Rule("cap_embedder.1", ("time_caption_embed.caption_embedder.1",), "embedding", "d 2304"),
        Rule("t_embedder.mlp.0", ("time_caption_embed.timestep_embedder.linear_1",), "time", "1024 256"),
        Rule("t_embedder.mlp.2", ("time_caption_embed.timestep_embedder.linear_2",), "time", "1024 1024"),
        Rule("final_layer.adaLN_modulation.1", ("norm_out.linear_1",), "other", "d 1024"),
        Rule("final_layer.linear", ("norm_out.linear_2",), "other", "64 d"),
    ),
    _BLOCKS,
)
_Z_IMAGE: Final = Table(
    (
        *(rule for stack in _STACKS for rule in _z_image_block(stack)),
        Rule("x_embedder", ("all_x_embedder.2-1",), "embedding", "d 64", parts=True),
        Rule("cap_embedder.1", ("cap_embedder.1",), "embedding", "d 2560"),
        Rule("t_embedder.mlp.0", ("t_embedder.mlp.0",), "time", "1024 256"),
        Rule("t_embedder.mlp.2", ("t_embedder.mlp.2",), "time", "256 1024"),
        Rule(
            "final_layer.adaLN_modulation.1",
            ("all_final_layer.2-1.adaLN_modulation.1",),
            "other",
            "d 256",
            parts=True,
        ),
        Rule("final_layer.linear", ("all_final_layer.2-1.linear",), "other", "64 d", parts=True),
    ),
    _BLOCKS,
)


def _lumina2() -> Iterator[tuple[str, Shape]]:
    counts = {"layers.": 26, "noise_refiner.": 2, "context_refiner.": 2}
    yield from _LUMINA2.published(counts, {"d": 2304, "q": 3840, "f": 9216})
    yield from under("text_encoders.gemma2_2b.transformer.", decoder_weights(GEMMA2_2B))


def _z_image() -> Iterator[tuple[str, Shape]]:
    counts = {"layers.": 30, "noise_refiner.": 2, "context_refiner.": 2}
    yield from _Z_IMAGE.published(counts, {"d": 3840, "f": 10240})


LUMINA2_NAMES: Final = Family(
    id="lumina2",
    components=(
        denoiser(_LUMINA2.layout, peft="transformer"),
        text_encoder("te1", called="gemma2_2b", peft="text_encoder", layout=decoder, kohya="lora_te_"),
    ),
    published={"2.0": _lumina2},
)
Z_IMAGE_NAMES: Final = Family(
    id="z_image",
    components=(denoiser(_Z_IMAGE.layout, peft="transformer"),),
    published={"6b": _z_image},
)
