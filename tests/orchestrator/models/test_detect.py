import pytest

from orchestrator.models.detect import Kind, dtype_of, family_of, kind_of
from orchestrator.models.header import Header, parse_header
from tests.orchestrator.models.files import header_of

Shapes = dict[str, list[int]]


def _header(shapes: Shapes, metadata: dict[str, str] | None = None) -> Header:
    import json

    header, size = header_of({name: ("F16", shape) for name, shape in shapes.items()}, metadata)
    return parse_header(json.dumps(header).encode(), size)


_UNET: Shapes = {"model.diffusion_model.time_embed.0.weight": [4, 4]}
_VAE: Shapes = {"first_stage_model.decoder.conv_in.weight": [4, 4]}
_LORA: Shapes = {"lora_unet_x.lora_down.weight": [4, 4], "lora_unet_x.lora_up.weight": [4, 4]}


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        (_LORA, "lora"),
        ({"transformer.x.lora_A.weight": [4, 4]}, "lora"),
        ({"lora_unet_x.hada_w1_a": [4, 4]}, "lora"),
        ({"lycoris_x.lokr_w1": [4, 4]}, "lora"),
        ({"lora_unet_x.oft_blocks": [4, 4]}, "lora"),
        (_UNET | _VAE, "checkpoint"),
        (_UNET | {"conditioner.embedders.0.x": [1]}, "checkpoint"),
        (_UNET, "diffusion_model"),
        ({"double_blocks.0.img_attn.qkv.weight": [4, 4]}, "diffusion_model"),
        ({"time_embedding.linear_1.weight": [4, 4], "conv_in.weight": [4]}, "diffusion_model"),
        ({"decoder.conv_in.weight": [4, 4], "encoder.conv_in.weight": [4, 4]}, "vae"),
        (_VAE, "vae"),
        ({"text_model.embeddings.token_embedding.weight": [4, 4]}, "text_encoder"),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": [4, 4]}, "text_encoder"),
        ({"emb_params": [4, 4]}, "embedding"),
        ({"clip_l": [4, 4], "clip_g": [4, 4]}, "embedding"),
        ({"control_model.input_hint_block.0.weight": [4]} | _UNET, "controlnet"),
        (
            {"controlnet_cond_embedding.conv_in.weight": [4], "time_embedding.linear_1.weight": [4]},
            "controlnet",
        ),
        ({"x": [1]}, None),
        ({}, None),
    ],
)
def test_a_kind_is_told_by_its_names(shapes: Shapes, kind: Kind | None) -> None:
    assert kind_of(_header(shapes)) == kind


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "lora"),
        ({"ss_network_module": "networks.lora"}, "lora"),
        ({"modelspec.architecture": "stable-diffusion-v1/textual-inversion"}, "embedding"),
        ({"modelspec.architecture": "stable-diffusion-v1"}, None),
    ],
)
def test_a_kind_may_be_said(metadata: dict[str, str], kind: Kind | None) -> None:
    assert kind_of(_header({"x": [1]}, metadata)) == kind


@pytest.mark.parametrize(
    ("key", "value", "family"),
    [
        ("modelspec.architecture", "stable-diffusion-v1", "sd15"),
        ("modelspec.architecture", "stable-diffusion-v1/lora", "sd15"),
        ("modelspec.architecture", "stable-diffusion-v2-768-v", "sd2"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora", "sdxl"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-refiner", "sdxl_refiner"),
        ("modelspec.architecture", "stable-diffusion-3.5-large", "sd3"),
        ("modelspec.architecture", "Flux-1-dev/lora", "flux1"),
        ("modelspec.architecture", "chroma", "chroma"),
        ("modelspec.architecture", "lumina-2", "lumina2"),
        ("modelspec.architecture", "hunyuan-image-2.1", "hunyuan_image"),
        ("modelspec.architecture", "anima-preview", "anima"),
        ("modelspec.architecture", "something-new", None),
        ("modelspec.architecture", "", None),
        ("ss_base_model_version", "sd_v1", "sd15"),
        ("ss_base_model_version", "sd_v2_768_v", "sd2"),
        ("ss_base_model_version", "sdxl_base_v1-0", "sdxl"),
        ("ss_base_model_version", "flux1", "flux1"),
        ("ss_base_model_version", "None", None),
        ("ss_sd_model_name", "sdxl.safetensors", None),
    ],
)
def test_a_family_may_be_said(key: str, value: str, family: str | None) -> None:
    assert family_of(_header({"x": [1]}, {key: value})) == family


_TO_K = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_CLASS = "model.diffusion_model.label_emb.0.0.weight"
_LORA_TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
_LORA_SDXL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight"
_FLUX: Shapes = {
    "vector_in.in_layer.weight": [3072, 768],
    "txt_in.weight": [3072, 4096],
    "img_in.weight": [3072, 64],
}


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({_TO_K: [320, 768]}, "sd15"),
        ({_TO_K: [320, 1024]}, "sd2"),
        ({_CLASS: [1280, 2816]}, "sdxl"),
        ({_CLASS: [1536, 2560]}, "sdxl_refiner"),
        ({_CLASS: [1536, 2048]}, None),
        ({_TO_K: [320, 32]}, None),
        ({_TO_K: [320]}, None),
        (_FLUX, "flux1"),
        ({f"model.diffusion_model.{name}": shape for name, shape in _FLUX.items()}, "flux1"),
        ({name: shape for name, shape in _FLUX.items() if "vector" not in name}, None),
        ({_LORA_TO_K: [16, 768]}, "sd15"),
        ({_LORA_TO_K: [16, 1024]}, "sd2"),
        ({_LORA_SDXL: [16, 2048]}, "sdxl"),
        ({_LORA_SDXL: [16, 768]}, None),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": [16, 3072]}, None),
        ({"x": [1]}, None),
    ],
)
def test_a_family_is_told_by_shapes_that_no_other_has(shapes: Shapes, family: str | None) -> None:
    assert family_of(_header(shapes)) == family


def test_the_type_is_that_of_most_numbers() -> None:
    import json

    header, size = header_of({"a": ("F32", [3]), "b": ("BF16", [100]), "c": ("F32", [2])})
    assert dtype_of(parse_header(json.dumps(header).encode(), size)) == "BF16"
    assert dtype_of(_header({})) is None
