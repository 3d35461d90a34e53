"""Qwen-Image, whose names are the same everywhere: those of diffusers.

Facts: `QwenImageTransformer2DModel` of diffusers; kohya names as musubi-tuner writes them.
"""

from collections.abc import Iterator
from typing import Final

from trainer.weights.names.component import denoiser
from trainer.weights.names.family import Family
from trainer.weights.names.rules import Rule, Table, numbered
from trainer.weights.names.site import Kind, Shape

_MODULES: Final[tuple[tuple[str, Kind, str], ...]] = (
    *(
        (f"transformer_blocks.*.attn.{name}", "attention", "d d")
        for name in (
            "to_q",
            "to_k",
            "to_v",
            "to_out.0",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_add_out",
        )
    ),
    *((f"transformer_blocks.*.{stream}_mlp.net.0.proj", "feed_forward", "4d d") for stream in ("img", "txt")),
    *((f"transformer_blocks.*.{stream}_mlp.net.2", "feed_forward", "d 4d") for stream in ("img", "txt")),
    *((f"transformer_blocks.*.{stream}_mod.1", "other", "6d d") for stream in ("img", "txt")),
    ("img_in", "embedding", "d 64"),
    ("txt_in", "embedding", "d 3584"),
    ("time_text_embed.timestep_embedder.linear_1", "time", "d 256"),
    ("time_text_embed.timestep_embedder.linear_2", "time", "d d"),
    ("norm_out.linear", "other", "2d d"),
    ("proj_out", "other", "64 d"),
)
_QWEN_IMAGE: Final = Table(
    [Rule(name, (name,), kind, shape) for name, kind, shape in _MODULES],
    numbered({"transformer_blocks": "BLOCK"}),
)


def _qwen_image() -> Iterator[tuple[str, Shape]]:
    yield from _QWEN_IMAGE.published({"transformer_blocks.": 60}, {"d": 3072})


QWEN_IMAGE_NAMES: Final = Family(
    id="qwen_image",
    components=(denoiser(_QWEN_IMAGE.layout, peft="transformer"),),
    published={"20b": _qwen_image},
)
