"""What a model is, from its header: kind, family and type of its numbers. Unmistakable signs only.

A sign that several families share says nothing: then the family is None, which is better than a wrong one.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final, Literal

from orchestrator.models.header import Header, Tensor

Kind = Literal[
    "checkpoint",
    "diffusion_model",
    "lora",
    "vae",
    "text_encoder",
    "tagger",
    "embedding",
    "controlnet",
    "upscaler",
    "unknown",
]

#: `modelspec.architecture`, by its beginning.
_ARCHITECTURES: Final = {
    "stable-diffusion-v1": "sd15",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-xl-v1-base": "sdxl",
    "stable-diffusion-3": "sd3",
    "flux-1": "flux1",
    "flux-2": "flux2",
    "chroma": "chroma",
    "lumina-2": "lumina2",
    "hunyuan-image": "hunyuan_image",
    "anima-": "anima",
}
#: `ss_base_model_version`, as trainers write it into LoRAs. By its beginning.
_BASE_VERSIONS: Final = {
    "sd_v1": "sd15",
    "sd_v2": "sd2",
    "sdxl_base_v": "sdxl",
    "sd3": "sd3",
    "flux1": "flux1",
    "flux2": "flux2",
    "chroma": "chroma",
    "lumina2": "lumina2",
    "hunyuan_image": "hunyuan_image",
}

#: Endings of names that only adapters have.
_LORA_ENDINGS: Final = (
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w1_a",
    ".oft_blocks",
    ".oft_diag",
    ".dora_scale",
)
_CONTROL_BEGINNINGS: Final = ("control_model.", "controlnet_", "input_hint_block.", "lllite_")
_UNET: Final = "model.diffusion_model."
_WITH_UNET: Final = ("first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "vae.")
#: Names that only a denoiser of its own has: U-Nets of diffusers and of the original code, and transformers.
_DENOISERS: Final = (
    "time_embedding.linear_1.weight",
    "time_embed.0.weight",
    "double_blocks.0.img_attn.qkv.weight",
    "joint_blocks.0.x_block.attn.qkv.weight",
    "transformer_blocks.0.attn.add_k_proj.weight",
)
_VAES: Final = ("decoder.conv_in.weight", "first_stage_model.decoder.conv_in.weight")
_TEXT_ENCODERS: Final = (
    "text_model.embeddings.token_embedding.weight",
    "transformer.text_model.embeddings.token_embedding.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "model.embed_tokens.weight",
)
_EMBEDDINGS: Final = ({"emb_params"}, {"clip_l"}, {"clip_g"}, {"clip_l", "clip_g"})


def kind_of(header: Header) -> Kind | None:
    """What sort of model it is; None where its header does not say."""
    names = header.tensors.keys()
    architecture = header.metadata.get("modelspec.architecture", "")
    if architecture.endswith("/lora") or "ss_network_module" in header.metadata:
        return "lora"
    if architecture.endswith("/textual-inversion") or set(names) in _EMBEDDINGS:
        return "embedding"
    return next((kind for kind, fits in _KINDS if fits(names)), None)


def family_of(header: Header) -> str | None:
    """What it is a model of, or for; None where that is not beyond doubt."""
    said = header.metadata
    return (
        _by_beginning(said.get("modelspec.architecture", "").lower(), _ARCHITECTURES)
        or _by_beginning(said.get("ss_base_model_version", "").lower(), _BASE_VERSIONS)
        or next((family for family, fits in _FAMILIES if fits(header.tensors)), None)
    )


def dtype_of(header: Header) -> str | None:
    """The type of most of its numbers, as the format writes it; None where it has none."""
    sizes: Counter[str] = Counter()
    for tensor in header.tensors.values():
        sizes[tensor.dtype] += tensor.bytes
    return max(sizes, key=sizes.__getitem__, default=None)


def _by_beginning(text: str, table: Mapping[str, str]) -> str | None:
    return next((family for beginning, family in table.items() if text.startswith(beginning)), None)


def _is_lora(names: Collection[str]) -> bool:
    return any(name.endswith(_LORA_ENDINGS) for name in names)


def _is_controlnet(names: Collection[str]) -> bool:
    return any(name.startswith(_CONTROL_BEGINNINGS) for name in names)


def _has_unet(names: Collection[str]) -> bool:
    return any(name.startswith(_UNET) for name in names)


def _is_checkpoint(names: Collection[str]) -> bool:
    return _has_unet(names) and any(name.startswith(_WITH_UNET) for name in names)


def _has_one_of(wanted: tuple[str, ...]) -> Callable[[Collection[str]], bool]:
    return lambda names: any(name in names for name in wanted)


#: In this order: a LoRA may be named after what it changes, and a checkpoint contains most of the others.
_KINDS: Final[tuple[tuple[Kind, Callable[[Collection[str]], bool]], ...]] = (
    ("lora", _is_lora),
    ("controlnet", _is_controlnet),
    ("checkpoint", _is_checkpoint),
    ("diffusion_model", _has_unet),
    ("diffusion_model", _has_one_of(_DENOISERS)),
    ("vae", _has_one_of(_VAES)),
    ("text_encoder", _has_one_of(_TEXT_ENCODERS)),
)

Tensors = Mapping[str, Tensor]

#: The first cross-attention of the U-Net, where the width of the text encoder shows.
_CHECKPOINT_TEXT: Final = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_CHECKPOINT_CLASS: Final = "model.diffusion_model.label_emb.0.0.weight"
_LORA_TEXT: Final = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
_LORA_SDXL_TEXT: Final = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight"


def _inner(tensors: Tensors, name: str) -> int | None:
    """The second size of a tensor: how wide is what comes in. None where there is no such tensor."""
    tensor = tensors.get(name)
    return tensor.shape[1] if tensor is not None and len(tensor.shape) >= 2 else None


def _is_sdxl_lora(tensors: Tensors) -> bool:
    return _inner(tensors, _LORA_SDXL_TEXT) == 2048


def _is_flux1(tensors: Tensors) -> bool:
    return any(
        _inner(tensors, f"{prefix}vector_in.in_layer.weight") == 768
        and _inner(tensors, f"{prefix}txt_in.weight") == 4096
        and _inner(tensors, f"{prefix}img_in.weight") == 64
        for prefix in ("", _UNET)
    )


_FAMILIES: Final[tuple[tuple[str, Callable[[Tensors], bool]], ...]] = (
    ("sdxl", lambda tensors: _inner(tensors, _CHECKPOINT_CLASS) == 2816),
    ("sd15", lambda tensors: _inner(tensors, _CHECKPOINT_TEXT) == 768),
    ("sd2", lambda tensors: _inner(tensors, _CHECKPOINT_TEXT) == 1024),
    ("flux1", _is_flux1),
    ("sdxl", _is_sdxl_lora),
    ("sd15", lambda tensors: _inner(tensors, _LORA_TEXT) == 768),
    ("sd2", lambda tensors: _inner(tensors, _LORA_TEXT) == 1024),
)
