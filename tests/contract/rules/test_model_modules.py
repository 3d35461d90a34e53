from collections.abc import Sequence

import pytest

from contract.rules.model_modules import adapter_modules, model_modules


@pytest.mark.parametrize(
    ("key", "module", "part", "name", "general"),
    [
        (
            "lora_unet_double_blocks_3_img_mlp_0.lora_down.weight",
            "lora_unet_double_blocks_3_img_mlp_0",
            "unet",
            "double_blocks_3_img_mlp_0",
            "double_blocks_#_img_mlp_0",
        ),
        (
            "transformer.transformer_blocks.3.ff.net.0.proj.lora_A.default.weight",
            "transformer.transformer_blocks.3.ff.net.0.proj",
            "unet",
            "transformer_blocks_3_ff_net_0_proj",
            "transformer_blocks_#_ff_net_0_proj",
        ),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q",
            "unet",
            "mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
            "mid_block_attentions_#_transformer_blocks_0_attn1_to_q",
        ),
        (
            "text_encoder_2.encoder.layers.0.mlp.fc1.lora_linear_layer.up.weight",
            "text_encoder_2.encoder.layers.0.mlp.fc1",
            "te2",
            "encoder_layers_0_mlp_fc1",
            "encoder_layers_#_mlp_fc1",
        ),
        (
            "text_conditioner.out_proj.lora_A.weight",
            "text_conditioner.out_proj",
            "unet",
            "text_conditioner_out_proj",
            "text_conditioner_out_proj",
        ),
        (
            "base_model.model.norm_out.linear.lora_B.weight",
            "base_model.model.norm_out.linear",
            "unet",
            "norm_out_linear",
            "norm_out_linear",
        ),
    ],
)
def test_a_module_of_an_adapter(key: str, module: str, part: str, name: str, general: str) -> None:
    (found,) = adapter_modules({key: [4, 8]})
    assert (found.key, found.part, found.name, found.general) == (module, part, name, general)


@pytest.mark.parametrize(
    ("roles", "out", "into", "sizes"),
    [
        ({"lora_up.weight": [8, 2, 1, 1], "lora_down.weight": [2, 6, 3, 3]}, 8, 6, 4),
        ({"lora_up.weight": [8, 2]}, 8, None, 0),
        ({"hada_w1_a": [8, 2], "hada_w1_b": [2, 6], "hada_w2_a": [8, 2], "hada_w2_b": [2, 6]}, 8, 6, 0),
        ({"hada_w1_a": [2, 8], "hada_w1_b": [2, 6], "hada_t1": [2, 2, 3, 3]}, 8, 6, 4),
        ({"lokr_w1": [2, 3], "lokr_w2": [4, 5]}, 8, 15, 2),
        ({"lokr_w1_a": [2, 1], "lokr_w1_b": [1, 3], "lokr_w2": [4, 5, 3, 3]}, 8, 15, 4),
        ({"lokr_w1": [2, 3], "lokr_w2_a": [4, 2], "lokr_w2_b": [2, 5]}, 8, 15, 0),
        ({"lokr_w1": [2, 3], "lokr_w2_a": [2, 4], "lokr_w2_b": [2, 5], "lokr_t2": [2, 2, 3, 3]}, 8, 15, 4),
        ({"lokr_w1": [2, 3]}, None, None, 0),
        ({"dora_scale": [1, 6], "diff": [8, 6]}, 8, 6, 2),
        ({"lora_down.weight": [3]}, None, None, 1),
    ],
)
def test_the_shape_of_the_weight_that_an_adapter_changes(
    roles: dict[str, Sequence[int]], out: int | None, into: int | None, sizes: int
) -> None:
    (found,) = adapter_modules({f"m.{role}": shape for role, shape in roles.items()})
    assert (found.out, found.into, found.sizes) == (out, into, sizes)


def test_whole_differences_and_norms_make_an_adapter_where_the_name_is_that_of_one() -> None:
    for key in ("lora_unet_x.diff", "lycoris_x.w_norm", "diffusion_model.x.set_weight", "unet.x.diff_b"):
        assert len(adapter_modules({key: [4, 4]})) == 1


def test_a_model_has_no_modules_of_an_adapter() -> None:
    tensors = {"x.alpha": [], "y.diff": [4, 4], "z.weight": [4, 6], "z.bias": [4], "norm.weight": [4]}
    assert adapter_modules(tensors) == []
    (found,) = model_modules(tensors)
    assert (found.key, found.out, found.into) == ("z", 4, 6)
