"""What sort of model a file of weights is, from the names in it. Unmistakable signs only."""

from collections.abc import Callable, Collection
from typing import Final, Literal

ModelKind = Literal[
    "checkpoint", "diffusion_model", "lora", "vae", "text_encoder", "embedding", "controlnet", "upscaler"
]
Names = Collection[str]

_CONTROL_BEGINNINGS: Final = ("control_model.", "controlnet_", "input_hint_block.", "lllite_")
_CONTROL_NAMES: Final = ("controlnet_blocks.0.weight", "controlnet_down_blocks.0.weight")
_UNET: Final = "model.diffusion_model."
_WITH_UNET: Final = ("first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "vae.")
#: Names that only a denoiser of its own has: U-Nets and transformers, of the original code and of diffusers.
_DENOISERS: Final = (
    "time_embedding.linear_1.weight",
    "time_embed.0.weight",
    "double_blocks.0.img_attn.qkv.weight",
    "double_blocks.0.img_attn_qkv.weight",
    "joint_blocks.0.x_block.attn.qkv.weight",
    "transformer_blocks.0.attn.add_k_proj.weight",
    "transformer_blocks.0.attn1.to_q.weight",
    "layers.0.attention.qkv.weight",
    "layers.0.attention.to_q.weight",
    "layers.0.attn.to_q.weight",
    "net.blocks.0.self_attn.q_proj.weight",
    "blocks.0.self_attn.q_proj.weight",
    "diffusion_model.double_blocks.0.img_attn.qkv.weight",
)
_VAES: Final = (
    "decoder.conv_in.weight",
    "first_stage_model.decoder.conv_in.weight",
    "decoder.middle.0.residual.0.gamma",
)
_TEXT_ENCODERS: Final = (
    "text_model.embeddings.token_embedding.weight",
    "transformer.text_model.embeddings.token_embedding.weight",
    "embeddings.token_embedding.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "model.embed_tokens.weight",
    "token_embedding.weight",
)
_UPSCALERS: Final = ("model.0.weight", "conv_first.weight", "params_ema.conv_first.weight")
_EMBEDDINGS: Final = ({"emb_params"}, {"clip_l"}, {"clip_g"}, {"clip_l", "clip_g"})


def kind_by_names(names: Names) -> ModelKind | None:
    """What a file without tensors of an adapter is; None where its names do not say."""
    return next((kind for kind, fits in _KINDS if fits(names)), None)


def is_embedding(names: Names) -> bool:
    """Whether it is a textual inversion."""
    return set(names) in _EMBEDDINGS if len(names) <= 2 else False


def _is_controlnet(names: Names) -> bool:
    return _has_one_of(_CONTROL_NAMES)(names) or any(name.startswith(_CONTROL_BEGINNINGS) for name in names)


def _has_unet(names: Names) -> bool:
    return any(name.startswith(_UNET) for name in names)


def _is_checkpoint(names: Names) -> bool:
    return _has_unet(names) and any(name.startswith(_WITH_UNET) for name in names)


def _has_one_of(wanted: tuple[str, ...]) -> Callable[[Names], bool]:
    return lambda names: any(name in names for name in wanted)


#: In this order: a checkpoint contains most of the others.
_KINDS: Final[tuple[tuple[ModelKind, Callable[[Names], bool]], ...]] = (
    ("embedding", is_embedding),
    ("controlnet", _is_controlnet),
    ("checkpoint", _is_checkpoint),
    ("diffusion_model", _has_unet),
    ("diffusion_model", _has_one_of(_DENOISERS)),
    ("vae", _has_one_of(_VAES)),
    ("text_encoder", _has_one_of(_TEXT_ENCODERS)),
    ("upscaler", _has_one_of(_UPSCALERS)),
)
