"""Anima: the transformer of Cosmos-Predict2 at 2B, and the adapter that it has before its text.

Facts: `convert_cosmos_transformer_checkpoint_to_diffusers` and
`_convert_non_diffusers_anima_lora_to_diffusers` of diffusers; kohya names and numbers from sd-scripts
(`lora_anima.py`, `anima_utils.py`). The published file has `net.` before its keys.
"""

from collections.abc import Iterator
from typing import Final

from contract.rules import blocks
from trainer.weights.names.component import Component, Source, denoiser, text_encoder
from trainer.weights.names.family import Family, under
from trainer.weights.names.language import QWEN3_06B, decoder, decoder_weights
from trainer.weights.names.rules import Rule, Table
from trainer.weights.names.site import Kind, Shape

_BLOCK: Final = "transformer_blocks.*."


def _attention(name: str, there: str, columns: str) -> Iterator[Rule]:
    at = f"blocks.*.{name}."
    yield Rule(f"{at}q_proj", (f"{_BLOCK}{there}.to_q",), "attention", "d d")
    yield Rule(f"{at}k_proj", (f"{_BLOCK}{there}.to_k",), "attention", f"d {columns}")
    yield Rule(f"{at}v_proj", (f"{_BLOCK}{there}.to_v",), "attention", f"d {columns}")
    yield Rule(f"{at}output_proj", (f"{_BLOCK}{there}.to_out.0",), "attention", "d d")


def _modulation(name: str, there: str, wide: str) -> Iterator[Rule]:
    yield Rule(f"{name}.1", (f"{there}.linear_1",), "other", "a d")
    yield Rule(f"{name}.2", (f"{there}.linear_2",), "other", f"{wide} a")


def _adapter() -> Iterator[Rule]:
    for attention in ("self_attn", "cross_attn"):
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield _same(f"blocks.*.{attention}.{part}", "attention", "t t")
    yield _same("blocks.*.mlp.0", "feed_forward", "4t t")
    yield _same("blocks.*.mlp.2", "feed_forward", "t 4t")
    yield _same("out_proj", "other", "t t")
    yield _same("embed", "embedding", "32128 t")


def _same(name: str, kind: Kind, shape: str) -> Rule:
    return Rule(name, (name,), kind, shape)


_TRANSFORMER: Final = Table(
    (
        *_attention("self_attn", "attn1", "d"),
        *_attention("cross_attn", "attn2", "t"),
        Rule("blocks.*.mlp.layer1", (f"{_BLOCK}ff.net.0.proj",), "feed_forward", "4d d"),
        Rule("blocks.*.mlp.layer2", (f"{_BLOCK}ff.net.2",), "feed_forward", "d 4d"),
        *_modulation("blocks.*.adaln_modulation_self_attn", f"{_BLOCK}norm1", "3d"),
        *_modulation("blocks.*.adaln_modulation_cross_attn", f"{_BLOCK}norm2", "3d"),
        *_modulation("blocks.*.adaln_modulation_mlp", f"{_BLOCK}norm3", "3d"),
        *_modulation("final_layer.adaln_modulation", "norm_out", "2d"),
        Rule("final_layer.linear", ("proj_out",), "other", "64 d"),
        Rule("t_embedder.1.linear_1", ("time_embed.t_embedder.linear_1",), "time", "d d"),
        Rule("t_embedder.1.linear_2", ("time_embed.t_embedder.linear_2",), "time", "3d d"),
        Rule("x_embedder.proj.1", ("patch_embed.proj",), "embedding", "d 68"),
    ),
    lambda name: blocks.block_of("anima", f"{name}."),
)
_ADAPTER: Final = Table(tuple(_adapter()), lambda name: blocks.block_of("anima", f"llm_adapter.{name}."))
#: diffusers keeps the adapter as a model of its own.
_ADAPTER_COMPONENT: Final = Component(
    id="unet",
    sources=tuple(
        Source(f"{prefix}llm_adapter.", _ADAPTER.layout)
        for prefix in ("model.diffusion_model.", "diffusion_model.", "net.", "")
    ),
    kohya="lora_unet_llm_adapter_",
    peft="text_conditioner.",
    generic="diffusion_model.llm_adapter.",
)


def _anima() -> Iterator[tuple[str, Shape]]:
    sizes = {"d": 2048, "a": 256, "t": 1024}
    yield from under("net.", _TRANSFORMER.published({"blocks.": 28}, sizes))
    yield from under("net.llm_adapter.", _ADAPTER.published({"blocks.": 6}, sizes))
    yield from under("text_encoders.qwen3_06b.transformer.", decoder_weights(QWEN3_06B))


ANIMA_NAMES: Final = Family(
    id="anima",
    components=(
        denoiser(_TRANSFORMER.layout, peft="transformer", prefixes=("net.",)),
        _ADAPTER_COMPONENT,
        text_encoder("te1", called="qwen3_06b", peft="text_encoder", layout=decoder, kohya="lora_te_"),
    ),
    published={"2b": _anima},
)
