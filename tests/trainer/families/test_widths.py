"""Configurations from shapes: those of the published models come out as published, small ones as they are."""

import json
from importlib import resources
from typing import Any

import pytest

from contract.errors import WeightsIncomplete
from trainer.families import FAMILIES
from trainer.families.widths import clip_config, unet_config, vae_config, vector_config
from trainer.fixtures.models import FAMILIES as SMALL
from trainer.fixtures.models import make_unet


def published(family: str) -> dict[str, dict[str, Any]]:
    text = resources.files("trainer.families").joinpath(f"data/{family}.json").read_text("utf-8")
    content: dict[str, dict[str, Any]] = json.loads(text)
    return content


def shapes(module: Any, level: str = "") -> dict[str, tuple[int, ...]]:
    return {level + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_the_shapes_of_a_full_size_model_give_its_published_configuration(family: str) -> None:
    model, known = FAMILIES[family].blank(), published(family)
    assert unet_config(known["unet"], shapes(model.denoiser), "x") == known["unet"]
    own = vae_config(known["vae"], shapes(model.vae), "x")
    assert own == known["vae"] | {"use_quant_conv": True, "use_post_quant_conv": True}
    for component, encoder in model.text_encoders.items():
        level = "" if hasattr(encoder, "text_model") else "text_model."
        assert clip_config(known[component], shapes(encoder, level), "x") == known[component]
    if family == "sdxl":
        vector = vector_config(shapes(model.denoiser), 1280, "x")
        assert {key: known["unet"][key] for key in vector} == vector


def test_the_shapes_of_a_small_model_give_its_own(family: str) -> None:
    own = unet_config(published(family)["unet"], shapes(make_unet(SMALL[family])), "x")
    made = dict(SMALL[family].unet)
    heads = made["attention_head_dim"]
    assert own["attention_head_dim"] == ([heads] * 4 if isinstance(heads, int) else list(heads))
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        assert own[key] == list(made[key])
    for key in ("norm_num_groups", "cross_attention_dim", "layers_per_block"):
        assert own[key] == made[key]


def test_depths_and_levels_are_counted() -> None:
    """A U-Net of two levels, of three blocks each, with attention three layers deep at the second alone."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 24),
        norm_num_groups=8,
        layers_per_block=3,
        transformer_layers_per_block=(1, 3),
        cross_attention_dim=12,
        attention_head_dim=(1, 2),
    )
    own = unet_config(published("sdxl")["unet"], shapes(unet), "x")
    assert own["down_block_types"] == ["DownBlock2D", "CrossAttnDownBlock2D"]
    assert own["up_block_types"] == ["CrossAttnUpBlock2D", "UpBlock2D"]
    assert (own["layers_per_block"], own["transformer_layers_per_block"]) == (3, [1, 3])
    assert (own["attention_head_dim"], own["norm_num_groups"]) == ([1, 2], 8)
    assert own["use_linear_projection"] is False
    again = UNet2DConditionModel.from_config(
        {key: own[key] for key in own if not key.startswith(("addition", "projection"))}
    )
    assert shapes(again) == shapes(unet)


@pytest.mark.parametrize("given", [{}, {"conv_in.weight": ()}, {"conv_in.weight": (8, 0, 3, 3)}])
def test_what_is_missing_is_named(given: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(WeightsIncomplete) as caught:
        unet_config(published("sd15")["unet"], given, "x.safetensors")
    assert (caught.value.where, caught.value.details) == ("x.safetensors", {"key": "conv_in.weight"})
