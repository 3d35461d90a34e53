"""Keys of adapters in every naming, and the module and part that each stands for."""

import pytest

from trainer.weights.adapter_keys import Part, key, naming_of, part


@pytest.mark.parametrize(
    ("text", "module", "role"),
    [
        ("lora_unet_down_blocks_0_proj_in.lora_up.weight", "lora_unet_down_blocks_0_proj_in", "up"),
        ("lora_unet_a.lora_down.weight", "lora_unet_a", "down"),
        ("lora_unet_a.lora_mid.weight", "lora_unet_a", "mid"),
        ("lora_unet_a.alpha", "lora_unet_a", "alpha"),
        ("lora_unet_a.dora_scale", "lora_unet_a", "dora_scale"),
        ("transformer.blocks.0.attn.to_q.lora_A.weight", "transformer.blocks.0.attn.to_q", "down"),
        ("transformer.blocks.0.attn.to_q.lora_B.weight", "transformer.blocks.0.attn.to_q", "up"),
        ("transformer.x.lora_A.default.weight", "transformer.x", "down"),
        ("base_model.model.x.lora_B.default_0.weight", "base_model.model.x", "up"),
        ("transformer.x.lora_B.bias", "transformer.x", "up_bias"),
        ("transformer.x.lora_B.default.bias", "transformer.x", "up_bias"),
        ("transformer.x.lora_magnitude_vector", "transformer.x", "dora_scale"),
        ("transformer.x.lora_magnitude_vector.default.weight", "transformer.x", "dora_scale"),
        ("unet.x.to_q.lora.up.weight", "unet.x.to_q", "up"),
        ("unet.x.processor.to_q_lora.down.weight", "unet.x.processor.to_q", "down"),
        ("text_encoder.x.lora_linear_layer.up.weight", "text_encoder.x", "up"),
        ("diffusion_model.x.lora_A", "diffusion_model.x", "down"),
        ("lora_unet_a.hada_w1_a", "lora_unet_a", "hada_w1_a"),
        ("lora_unet_a.hada_t2", "lora_unet_a", "hada_t2"),
        ("lora_unet_a.lokr_w2_b", "lora_unet_a", "lokr_w2_b"),
        ("lora_unet_a.diff", "lora_unet_a", "diff"),
        ("diffusion_model.a.norm.w_norm", "diffusion_model.a.norm", "w_norm"),
        ("diffusion_model.a.reshape_weight", "diffusion_model.a", "reshape"),
        ("lora_unet_a.b1.weight", "lora_unet_a", "b1"),
    ],
)
def test_a_key_is_a_part_of_a_module(text: str, module: str, role: str) -> None:
    assert part(text) == Part(module, role)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "model.diffusion_model.x.weight",
        "bundle_emb.x.string_to_param.*",
        "alpha",
        ".alpha",
        "",
        "x.lora_A.a.b",
    ],
)
def test_what_is_no_part_of_a_module_is_none(text: str) -> None:
    assert part(text) is None


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("lora_unet_a_b", "kohya"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "kohya"),
        ("lycoris_blocks_0", "kohya"),
        ("diffusion_model.double_blocks.0.img_attn.qkv", "generic"),
        ("text_encoders.clip_l.transformer.x", "generic"),
        ("transformer.transformer_blocks.0.attn.to_q", "peft"),
        ("base_model.model.x.y", "peft"),
    ],
)
def test_a_name_shows_its_naming(name: str, naming: str) -> None:
    assert naming_of(name) == naming


def test_keys_are_written_as_each_naming_has_them() -> None:
    assert key("lora_unet_a", "up", "kohya") == "lora_unet_a.lora_up.weight"
    assert key("transformer.a", "up", "peft") == "transformer.a.lora_B.weight"
    assert key("diffusion_model.a", "down", "generic") == "diffusion_model.a.lora_A.weight"
    assert key("transformer.a", "dora_scale", "peft") == "transformer.a.lora_magnitude_vector"
    assert key("diffusion_model.a", "dora_scale", "generic") == "diffusion_model.a.dora_scale"
    assert key("lora_unet_a", "alpha", "kohya") == "lora_unet_a.alpha"


def test_what_is_written_is_read_as_the_same_part() -> None:
    for naming, name in (
        ("kohya", "lora_unet_a"),
        ("peft", "transformer.a"),
        ("generic", "diffusion_model.a"),
    ):
        for role in ("up", "down", "alpha", "dora_scale", "hada_w1_a", "lokr_w2", "diff"):
            assert part(key(name, role, naming)) == Part(name, role)  # type: ignore[arg-type]
