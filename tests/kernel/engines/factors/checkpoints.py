"""Small checkpoints in the layout of SDXL and of FLUX, and the modules that sit in them."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from trainer.weights.tensor_file import TensorFile, open_weights

_UNET = "model.diffusion_model."
_BIGG = "conditioner.embedders.1.model.transformer.resblocks.0."
ATTENTION = f"{_UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
CONVOLUTION = f"{_UNET}input_blocks.1.0.in_layers.2.weight"
CONVOLUTION_BIAS = f"{_UNET}input_blocks.1.0.in_layers.2.bias"
NORM = f"{_UNET}input_blocks.1.0.in_layers.0.weight"
NORM_BIAS = f"{_UNET}input_blocks.1.0.in_layers.0.bias"
SKIP = f"{_UNET}input_blocks.4.0.skip_connection.weight"
FUSED = f"{_BIGG}attn.in_proj_weight"
FUSED_BIAS = f"{_BIGG}attn.in_proj_bias"
FEED_FORWARD = f"{_BIGG}mlp.c_fc.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
SDXL: dict[str, tuple[int, ...]] = {
    ATTENTION: (48, 64),
    CONVOLUTION: (20, 12, 3, 3),
    CONVOLUTION_BIAS: (20,),
    NORM: (12,),
    NORM_BIAS: (12,),
    SKIP: (24, 16, 1, 1),
    FUSED: (72, 24),
    FUSED_BIAS: (72,),
    FEED_FORWARD: (56, 24),
    VAE: (8, 4, 3, 3),
}
QKV = f"{_UNET}double_blocks.0.img_attn.qkv.weight"
LINEAR1 = f"{_UNET}single_blocks.0.linear1.weight"
FINAL = f"{_UNET}final_layer.adaLN_modulation.1.weight"
FLUX: dict[str, tuple[int, ...]] = {QKV: (96, 32), LINEAR1: (224, 32), FINAL: (64, 32)}
#: Module names of kohya for the weights above.
MODULES = {
    ATTENTION: "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
    CONVOLUTION: "lora_unet_input_blocks_1_0_in_layers_2",
    NORM: "lora_unet_input_blocks_1_0_in_layers_0",
    SKIP: "lora_unet_input_blocks_4_0_skip_connection",
    FEED_FORWARD: "lora_te2_text_model_encoder_layers_0_mlp_fc1",
    QKV: "lora_unet_double_blocks_0_img_attn_qkv",
    LINEAR1: "lora_unet_single_blocks_0_linear1",
}
FUSED_MODULES = [f"lora_te2_text_model_encoder_layers_0_self_attn_{part}_proj" for part in "qkv"]


def weights(
    shapes: dict[str, tuple[int, ...]], seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Random weights."""
    source = torch.Generator().manual_seed(seed)
    return {key: torch.randn(*shape, generator=source).to(dtype) for key, shape in shapes.items()}


def checkpoint(path: Path, tensors: dict[str, torch.Tensor]) -> TensorFile:
    """A file of them, opened."""
    save_file(tensors, path)
    return open_weights(str(path))
