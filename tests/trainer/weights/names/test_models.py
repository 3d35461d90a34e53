"""Every layer of the models that diffusers and transformers build has a site, with its shape."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from trainer.weights.names import published, sites
from trainer.weights.names.published_text import Clip, transformers_clip_weights
from trainer.weights.names.published_unet import UNet, unet_weights

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


def _layers(model: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            yield name, tuple(module.weight.shape)


def _build(name: str, **settings: Any) -> Any:
    with torch.device("meta"):
        return getattr(diffusers, name)(**settings)


#: Family, class, what its published configuration has otherwise than the defaults of the class.
_TRANSFORMERS: list[tuple[str, str | None, str, dict[str, Any]]] = [
    ("flux1", None, "FluxTransformer2DModel", {"guidance_embeds": True}),
    ("chroma", None, "ChromaTransformer2DModel", {}),
    ("flux2", None, "Flux2Transformer2DModel", {}),
    (
        "sd3",
        "3.5-medium",
        "SD3Transformer2DModel",
        {
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "dual_attention_layers": tuple(range(13)),
            "qk_norm": "rms_norm",
        },
    ),
    ("lumina2", None, "Lumina2Transformer2DModel", {"cap_feat_dim": 2304}),
    ("z_image", None, "ZImageTransformer2DModel", {}),
    ("qwen_image", None, "QwenImageTransformer2DModel", {}),
    (
        "hunyuan_image",
        None,
        "HunyuanImageTransformer2DModel",
        {"guidance_embeds": True, "use_meanflow": True, "text_embed_2_dim": 1472},
    ),
    (
        "anima",
        None,
        "CosmosTransformer3DModel",
        {"num_attention_heads": 16, "extra_pos_embed_type": None},
    ),
]


# ChromaTransformer2DModel of diffusers 0.42 uses what diffusers itself calls deprecated.
@pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")
@pytest.mark.parametrize(("family", "variant", "model", "settings"), _TRANSFORMERS)
def test_every_layer_of_a_published_transformer_has_a_site(
    family: str, variant: str | None, model: str, settings: dict[str, Any]
) -> None:
    here = {site.peft: site for site in published(family, variant).all}
    layers = dict(_layers(_build(model, **settings)))
    assert {name: here[f"transformer.{name}"].shape for name in layers} == layers
    assert {name for name in here if (name or "").startswith("transformer.")} == {
        f"transformer.{name}" for name in layers
    }


_TINY = [
    ("sd15", UNet(channels=(32, 64), depths=(1, 1), middle=1, context=24, linear=False, layers=1)),
    ("sd15", UNet(channels=(32, 64, 64), depths=(1, 1, 0), middle=1, context=32, linear=False)),
    ("sdxl", UNet(channels=(32, 64), depths=(0, 2), middle=2, context=48, linear=True, vector=96)),
    ("sdxl", UNet(channels=(32, 64, 96), depths=(0, 1, 3), middle=3, context=64, linear=True, vector=80)),
]


def _tiny_unet(model: UNet) -> Any:
    return _build(
        "UNet2DConditionModel",
        block_out_channels=model.channels,
        layers_per_block=model.layers,
        down_block_types=[f"{'CrossAttn' * bool(depth)}DownBlock2D" for depth in model.depths],
        up_block_types=[f"{'CrossAttn' * bool(depth)}UpBlock2D" for depth in reversed(model.depths)],
        transformer_layers_per_block=[depth or 1 for depth in model.depths],
        cross_attention_dim=model.context,
        use_linear_projection=model.linear,
        attention_head_dim=8,
        addition_embed_type="text_time" if model.vector else None,
        addition_time_embed_dim=8 if model.vector else None,
        projection_class_embeddings_input_dim=model.vector or None,
    )


@pytest.mark.parametrize(("family", "model"), _TINY)
def test_every_layer_of_a_small_unet_has_a_site(family: str, model: UNet) -> None:
    weights = {f"model.diffusion_model.{key}": shape for key, shape in unet_weights(model)}
    found = sites(family, weights)
    layers = dict(_layers(_tiny_unet(model)))
    for name, shape in layers.items():
        site = found.find(f"unet.{name}")
        assert site is not None, name
        assert (site.peft, site.shape, weights[site.weight]) == (f"unet.{name}", shape, shape)
    assert len(layers) == sum(site.kind != "norm" for site in found.all)


def test_every_layer_of_a_clip_text_model_has_a_site() -> None:
    config = transformers.CLIPTextConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4
    )
    with torch.device("meta"):
        model = transformers.CLIPTextModelWithProjection(config)
    weights = dict(transformers_clip_weights(Clip(width=32, layers=3)))
    found = sites("sd15", {f"cond_stage_model.transformer.{key}": shape for key, shape in weights.items()})
    layers = {name: shape for name, shape in _layers(model) if name != "text_projection"}
    assert layers == {
        name: site.shape for name in layers if (site := found.find(f"text_encoder.{name}")) is not None
    }


_SMALL = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("family", "model", "config", "settings", "called", "below"),
    [
        (
            "lumina2",
            "Gemma2Model",
            "Gemma2Config",
            {**_SMALL, "num_key_value_heads": 2},
            "gemma2_2b",
            "model.",
        ),
        ("anima", "Qwen3Model", "Qwen3Config", {**_SMALL, "num_key_value_heads": 2}, "qwen3_06b", "model."),
        (
            "flux1",
            "T5EncoderModel",
            "T5Config",
            {
                "d_model": 32,
                "d_kv": 8,
                "d_ff": 96,
                "num_layers": 2,
                "num_heads": 4,
                "feed_forward_proj": "gated-gelu",
            },
            "t5xxl",
            "",
        ),
    ],
)
def test_every_layer_of_a_language_model_has_a_site(
    family: str, model: str, config: str, settings: dict[str, Any], called: str, below: str
) -> None:
    with torch.device("meta"):
        built = getattr(transformers, model)(getattr(transformers, config)(**settings))
    layers = dict(_layers(built))
    prefix = f"text_encoders.{called}.transformer.{below}"
    here = sites(family, {f"{prefix}{name}.weight": shape for name, shape in layers.items()})
    kohya = "lora_te3_" if family == "flux1" else "lora_te_"
    assert {site.kohya: site.shape for site in here.all} == {
        kohya + name.replace(".", "_"): shape for name, shape in layers.items()
    }
    assert {site.generic for site in here.all} == {f"{prefix}{name}" for name in layers}
