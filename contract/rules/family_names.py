"""What the modules of transformers are called, by family: in original code, in diffusers and in ComfyUI.

Names are written with underscores, as kohya adapters have them, and `#` for the first number in them. Each
list is complete for its family, so that a file which fits no list is none of them. U-Nets have no list; they
are told by what they begin with.
"""

from collections.abc import Iterator, Mapping
from typing import Final

#: What every module of a U-Net begins with, in the original code and in diffusers.
UNET_BEGINNINGS: Final = (
    "input_blocks_",
    "middle_block_",
    "output_blocks_",
    "down_blocks_",
    "mid_block_",
    "up_blocks_",
    "time_embed_0",
    "time_embed_2",
    "time_embedding_linear_",
    "label_emb_",
    "add_embedding_",
    "conv_in",
    "conv_out",
    "out_2",
)
#: Parts of names in U-Nets of other families that are built like Stable Diffusion's: video, cascades, Kolors.
UNET_STRANGERS: Final = (
    "motion_modules",
    "temporal_",
    "time_stack",
    "time_mix",
    "channelwise",
    "encoder_hid_proj",
    "temp_convs",
)
UNETS: Final = frozenset({"sd15", "sd2", "sdxl", "sdxl_refiner"})


def _each(beginning: str, names: str) -> Iterator[str]:
    return (beginning + name for name in names.split())


_DOUBLE: Final = (
    *_each("double_blocks_#_img_", "attn_qkv attn_proj mlp_0 mlp_2"),
    *_each("double_blocks_#_txt_", "attn_qkv attn_proj mlp_0 mlp_2"),
    *_each("single_blocks_#_", "linear1 linear2"),
)
_DOUBLE_MODULATION: Final = (
    "double_blocks_#_img_mod_lin",
    "double_blocks_#_txt_mod_lin",
    "single_blocks_#_modulation_lin",
)
_JOINT_ATTENTION: Final = tuple(
    _each(
        "transformer_blocks_#_attn_",
        "to_q to_k to_v to_out_0 add_q_proj add_k_proj add_v_proj to_add_out",
    )
)
_JOINT_FORWARD: Final = tuple(
    _each("transformer_blocks_#_", "ff_net_0_proj ff_net_2 ff_context_net_0_proj ff_context_net_2")
)
_JOINT_MODULATION: Final = ("transformer_blocks_#_norm1_linear", "transformer_blocks_#_norm1_context_linear")
_SINGLE: Final = tuple(
    _each("single_transformer_blocks_#_", "attn_to_q attn_to_k attn_to_v proj_mlp proj_out")
)
_FLUX_ENDS: Final = ("img_in", "txt_in", "x_embedder", "context_embedder", "final_layer_linear", "proj_out")
_FINAL: Final = ("final_layer_adaLN_modulation_#", "norm_out_linear")
_TIME_IN: Final = tuple(_each("time_in_", "in_layer out_layer"))
_GUIDANCE_IN: Final = tuple(_each("guidance_in_", "in_layer out_layer"))

_SD3: Final = (
    *_each("joint_blocks_#_x_block_", "attn_qkv attn_proj attn2_qkv attn2_proj mlp_fc1 mlp_fc2"),
    *_each("joint_blocks_#_context_block_", "attn_qkv attn_proj mlp_fc1 mlp_fc2 adaLN_modulation_1"),
    "joint_blocks_#_x_block_adaLN_modulation_1",
    *_each("transformer_blocks_#_attn2_", "to_q to_k to_v to_out_0"),
    *_JOINT_ATTENTION,
    *_JOINT_FORWARD,
    *_JOINT_MODULATION,
    *_each("", "context_embedder x_embedder_proj pos_embed_proj final_layer_linear proj_out"),
    *_each("", "t_embedder_mlp_# y_embedder_mlp_#"),
    *_each("time_text_embed_", "text_embedder_linear_# timestep_embedder_linear_#"),
    *_FINAL,
)
_FLUX1: Final = (
    *_DOUBLE,
    *_DOUBLE_MODULATION,
    *_JOINT_ATTENTION,
    *_JOINT_FORWARD,
    *_JOINT_MODULATION,
    *_SINGLE,
    "single_transformer_blocks_#_norm_linear",
    *_FLUX_ENDS,
    *_FINAL,
    *_TIME_IN,
    *_GUIDANCE_IN,
    *_each("vector_in_", "in_layer out_layer"),
    *_each(
        "time_text_embed_", "text_embedder_linear_# timestep_embedder_linear_# guidance_embedder_linear_#"
    ),
)
_CHROMA: Final = (
    *_DOUBLE,
    *_JOINT_ATTENTION,
    *_JOINT_FORWARD,
    *_SINGLE,
    *_FLUX_ENDS,
    *_each("distilled_guidance_layer_", "in_proj out_proj"),
    *_each("distilled_guidance_layer_layers_#_", "in_layer out_layer linear_1 linear_2"),
)
_FLUX2: Final = (
    *_DOUBLE,
    *_JOINT_ATTENTION,
    *_each("transformer_blocks_#_", "ff_linear_in ff_linear_out ff_context_linear_in ff_context_linear_out"),
    *_each("single_transformer_blocks_#_attn_", "to_qkv_mlp_proj to_out"),
    *_FLUX_ENDS,
    *_FINAL,
    *_TIME_IN,
    *_GUIDANCE_IN,
    *_each("double_stream_modulation_", "img_lin img_linear txt_lin txt_linear"),
    *_each("single_stream_modulation_", "lin linear"),
    *_each("time_guidance_embed_", "guidance_embedder_linear_# timestep_embedder_linear_#"),
)


def _next_dit(block: str, modulation: str) -> Iterator[str]:
    for stack in ("layers_#_", "noise_refiner_#_", "context_refiner_#_"):
        yield from _each(stack, block)
        if stack != "context_refiner_#_":
            yield from _each(stack, modulation)


_LUMINA2: Final = (
    *_next_dit(
        "attention_qkv attention_out attn_to_q attn_to_k attn_to_v attn_to_out_0 feed_forward_w1 "
        "feed_forward_w2 feed_forward_w3 feed_forward_linear_1 feed_forward_linear_2 feed_forward_linear_3",
        "adaLN_modulation_1 norm1_linear",
    ),
    *_each("", "x_embedder cap_embedder_# t_embedder_mlp_# final_layer_linear norm_out_linear_#"),
    "final_layer_adaLN_modulation_#",
    *_each("time_caption_embed_", "caption_embedder_# timestep_embedder_linear_#"),
)
_Z_IMAGE: Final = (
    *_next_dit(
        "attention_qkv attention_out attention_to_q attention_to_k attention_to_v attention_to_out_0 "
        "feed_forward_w1 feed_forward_w2 feed_forward_w3",
        "adaLN_modulation_0",
    ),
    *_each("", "x_embedder cap_embedder_# t_embedder_mlp_# final_layer_linear"),
    "final_layer_adaLN_modulation_#",
    *_each("all_", "x_embedder_2-1 final_layer_2-1_linear final_layer_2-1_adaLN_modulation_#"),
)
_ANIMA_ADAPTER: Final = (
    *_each("blocks_#_self_attn_", "q_proj k_proj v_proj o_proj"),
    *_each("blocks_#_cross_attn_", "q_proj k_proj v_proj o_proj"),
    *_each("", "blocks_#_mlp_0 blocks_#_mlp_2 out_proj embed"),
)
_ANIMA: Final = (
    *_each("blocks_#_self_attn_", "q_proj k_proj v_proj output_proj"),
    *_each("blocks_#_cross_attn_", "q_proj k_proj v_proj output_proj"),
    *_each("blocks_#_mlp_", "layer1 layer2"),
    *(
        f"blocks_#_adaln_modulation_{name}_{number}"
        for name in ("self_attn", "cross_attn", "mlp")
        for number in (1, 2)
    ),
    *_each("transformer_blocks_#_attn1_", "to_q to_k to_v to_out_0"),
    *_each("transformer_blocks_#_attn2_", "to_q to_k to_v to_out_0"),
    *_each("transformer_blocks_#_ff_net_", "0_proj 2"),
    *(f"transformer_blocks_#_norm{norm}_linear_{number}" for norm in (1, 2, 3) for number in (1, 2)),
    *_each("llm_adapter_", " ".join(_ANIMA_ADAPTER)),
    *_each("text_conditioner_", " ".join(_ANIMA_ADAPTER)),
    *_each("", "t_embedder_#_linear_1 t_embedder_#_linear_2 time_embed_t_embedder_linear_#"),
    *_each("", "x_embedder_proj_# patch_embed_proj final_layer_linear proj_out"),
    *_each("", "final_layer_adaln_modulation_# norm_out_linear_#"),
)
_QWEN_IMAGE: Final = (
    *_JOINT_ATTENTION,
    *_each("transformer_blocks_#_img_", "mlp_net_0_proj mlp_net_2 mod_1"),
    *_each("transformer_blocks_#_txt_", "mlp_net_0_proj mlp_net_2 mod_1"),
    *_each("", "img_in txt_in norm_out_linear proj_out time_text_embed_timestep_embedder_linear_#"),
)
_HUNYUAN_IMAGE: Final = (
    *_DOUBLE,
    *_DOUBLE_MODULATION,
    *_each("double_blocks_#_img_", "mlp_fc1 mlp_fc2 mod_linear"),
    *_each("double_blocks_#_txt_", "mlp_fc1 mlp_fc2 mod_linear"),
    "single_blocks_#_modulation_linear",
    *_JOINT_ATTENTION,
    *_JOINT_FORWARD,
    *_JOINT_MODULATION,
    *_SINGLE,
    "single_transformer_blocks_#_norm_linear",
    *_each(
        "txt_in_individual_token_refiner_blocks_#_",
        "self_attn_qkv self_attn_proj mlp_0 mlp_2 mlp_fc1 mlp_fc2 adaLN_modulation_1",
    ),
    *_each(
        "context_embedder_token_refiner_refiner_blocks_#_",
        "attn_to_q attn_to_k attn_to_v attn_to_out_0 ff_net_0_proj ff_net_2 norm_out_linear",
    ),
    *_each("txt_in_", "input_embedder c_embedder_linear_# c_embedder_in_layer c_embedder_out_layer"),
    *_each("txt_in_t_embedder_", "mlp_# in_layer out_layer"),
    *_each("context_embedder_", "proj_in #_linear_1 #_linear_2 #_linear_3"),
    *_each("context_embedder_time_text_embed_", "text_embedder_linear_# timestep_embedder_linear_#"),
    *_each("", "img_in_proj x_embedder_proj final_layer_linear proj_out"),
    *_each("byt5_in_", "fc1 fc2 fc3"),
    *_each("time_in_", "mlp_# in_layer out_layer"),
    *_each("time_r_in_", "mlp_# in_layer out_layer"),
    *_each("guidance_in_", "mlp_# in_layer out_layer"),
    *_each(
        "time_guidance_embed_",
        "guidance_embedder_linear_# timestep_embedder_linear_# timestep_embedder_r_linear_#",
    ),
    *_FINAL,
)

#: Family → every name of its transformer's modules.
NAMES: Final[Mapping[str, frozenset[str]]] = {
    "sd3": frozenset(_SD3),
    "flux1": frozenset(_FLUX1),
    "flux2": frozenset(_FLUX2),
    "chroma": frozenset(_CHROMA),
    "lumina2": frozenset(_LUMINA2),
    "anima": frozenset(_ANIMA),
    "qwen_image": frozenset(_QWEN_IMAGE),
    "z_image": frozenset(_Z_IMAGE),
    "hunyuan_image": frozenset(_HUNYUAN_IMAGE),
}
#: Name → the families that have it.
FAMILIES_OF: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(family for family, names in NAMES.items() if name in names)
    for name in frozenset().union(*NAMES.values())
}
#: How wide the published models are. Narrower ones than `SMALL` are made for tests, and say nothing.
WIDTHS: Final[Mapping[str, frozenset[int]]] = {
    "sd3": frozenset({1536, 2432}),
    "flux1": frozenset({3072}),
    "flux2": frozenset({3072, 4096, 6144}),
    "chroma": frozenset({3072}),
    "lumina2": frozenset({2304}),
    "anima": frozenset({2048}),
    "qwen_image": frozenset({3072}),
    "z_image": frozenset({3840}),
    "hunyuan_image": frozenset({3584}),
}
SMALL: Final = 512
#: How many blocks of each sort the published models have at most, by what names of them begin with.
DEPTHS: Final[Mapping[str, Mapping[str, int]]] = {
    "transformer_blocks_#_": {
        "sd3": 38,
        "flux1": 19,
        "flux2": 8,
        "chroma": 19,
        "anima": 28,
        "qwen_image": 60,
        "hunyuan_image": 20,
    },
    "double_blocks_#_": {"flux1": 19, "flux2": 8, "chroma": 19, "hunyuan_image": 20},
    "single_blocks_#_": {"flux1": 38, "flux2": 48, "chroma": 38, "hunyuan_image": 40},
    "single_transformer_blocks_#_": {"flux1": 38, "flux2": 48, "chroma": 38, "hunyuan_image": 40},
}
