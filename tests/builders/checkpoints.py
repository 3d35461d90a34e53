"""Small single-file checkpoints with random numbers: true names and structure, few channels."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = Iterator[tuple[str, tuple[int, ...]]]
Tensors = dict[str, torch.Tensor]

UNET = "model.diffusion_model"
#: Channels of the four levels of a small SD1.5; its norms have 32 groups.
CHANNELS = (32, 32, 32, 32)
#: Width of the text for the U-Net, by which families are told.
_TEXT = {"sd15": 768, "sdxl": 2048}


def sd15(
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float16,
    channels: tuple[int, ...] = CHANNELS,
    vae: bool = True,
    ema: bool = False,
) -> Tensors:
    """SD1.5 in the layout of its original code; `position_ids` and a table of the schedule included."""
    shapes = dict(_unet(channels, (1,) * (len(channels) - 1) + (0,), _TEXT["sd15"], convolutions=True))
    names = list(shapes)
    shapes |= dict(_clip("cond_stage_model.transformer.text_model", width=64, inner=128, layers=1))
    if vae:
        shapes |= dict(_vae())
    tensors = _filled(shapes, seed, dtype)
    if ema:
        averages = _filled({_average(name): shapes[name] for name in names}, seed + 1_000, torch.float32)
        tensors |= averages | {
            "model_ema.decay": torch.tensor(0.9999),
            "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
        }
    ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    return tensors | {
        ids: torch.arange(77).reshape(1, 77),
        "alphas_cumprod": torch.linspace(0.999, 0.0047, 1000),
    }


def sdxl(seed: int = 0, *, dtype: torch.dtype = torch.float16, vae: bool = True) -> Tensors:
    """SDXL in the layout of its original code."""
    shapes = dict(_unet((32, 32, 32), (0, 1, 2), _TEXT["sdxl"], convolutions=False, vector=2816))
    shapes |= dict(_clip("conditioner.embedders.0.transformer.text_model", width=64, inner=128, layers=1))
    shapes |= dict(_open_clip("conditioner.embedders.1.model", width=64, inner=128))
    if vae:
        shapes |= dict(_vae())
    return _filled(shapes, seed, dtype)


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """Write them as the format's own library does."""
    save_file(tensors, path, dict(metadata or {}))
    return path


def bare_vae(tensors: Tensors) -> Tensors:
    """The VAE of a checkpoint under the names of a file of its own."""
    prefix = "first_stage_model."
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def _average(name: str) -> str:
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _filled(shapes: Mapping[str, tuple[int, ...]], seed: int, dtype: torch.dtype) -> Tensors:
    source = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=source) / math.sqrt(max(math.prod(shape[1:]), 4))).to(dtype)
        for name, shape in shapes.items()
    }


def _layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def _unet(
    channels: tuple[int, ...], depths: tuple[int, ...], context: int, *, convolutions: bool, vector: int = 0
) -> Shapes:
    """The U-Net of Stable Diffusion with two layers a level, its names after `model.diffusion_model`."""
    width, time = channels[0], channels[0] * 4
    yield from _layer(f"{UNET}.time_embed.0", time, width)
    yield from _layer(f"{UNET}.time_embed.2", time, time)
    if vector:
        yield from _layer(f"{UNET}.label_emb.0.0", time, vector)
        yield from _layer(f"{UNET}.label_emb.0.2", time, time)
    yield from _layer(f"{UNET}.input_blocks.0.0", width, 4, 3, 3)
    skips, here, number = [width], width, 1
    for level, (own, depth) in enumerate(zip(channels, depths, strict=True)):
        for _ in range(2):
            yield from _residual(f"{UNET}.input_blocks.{number}.0", here, own, time)
            yield from _attention(f"{UNET}.input_blocks.{number}.1", own, depth, context, convolutions)
            skips.append(own)
            here, number = own, number + 1
        if level + 1 < len(channels):
            yield from _layer(f"{UNET}.input_blocks.{number}.0.op", own, own, 3, 3)
            skips.append(own)
            number += 1
    yield from _residual(f"{UNET}.middle_block.0", here, here, time)
    yield from _attention(f"{UNET}.middle_block.1", here, max(depths[-1], 1), context, convolutions)
    yield from _residual(f"{UNET}.middle_block.2", here, here, time)
    number = 0
    for level in reversed(range(len(channels))):
        own, depth = channels[level], depths[level]
        for layer in range(3):
            block = f"{UNET}.output_blocks.{number}"
            yield from _residual(f"{block}.0", here + skips.pop(), own, time)
            yield from _attention(f"{block}.1", own, depth, context, convolutions)
            if layer == 2 and level:
                yield from _layer(f"{block}.{2 if depth else 1}.conv", own, own, 3, 3)
            here, number = own, number + 1
    yield from _layer(f"{UNET}.out.0", width)
    yield from _layer(f"{UNET}.out.2", 4, width, 3, 3)


def _residual(name: str, ins: int, outs: int, time: int) -> Shapes:
    yield from _layer(f"{name}.in_layers.0", ins)
    yield from _layer(f"{name}.in_layers.2", outs, ins, 3, 3)
    yield from _layer(f"{name}.emb_layers.1", outs, time)
    yield from _layer(f"{name}.out_layers.0", outs)
    yield from _layer(f"{name}.out_layers.3", outs, outs, 3, 3)
    if ins != outs:
        yield from _layer(f"{name}.skip_connection", outs, ins, 1, 1)


def _attention(name: str, width: int, depth: int, context: int, convolutions: bool) -> Shapes:
    if not depth:
        return
    kernel = (1, 1) if convolutions else ()
    yield from _layer(f"{name}.norm", width)
    yield from _layer(f"{name}.proj_in", width, width, *kernel)
    for layer in range(depth):
        block = f"{name}.transformer_blocks.{layer}"
        for attention, source in (("attn1", width), ("attn2", context)):
            yield from _layer(f"{block}.{attention}.to_q", width, width, bias=False)
            yield from _layer(f"{block}.{attention}.to_k", width, source, bias=False)
            yield from _layer(f"{block}.{attention}.to_v", width, source, bias=False)
            yield from _layer(f"{block}.{attention}.to_out.0", width, width)
        yield from _layer(f"{block}.ff.net.0.proj", width * 8, width)
        yield from _layer(f"{block}.ff.net.2", width, width * 4)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _layer(f"{block}.{norm}", width)
    yield from _layer(f"{name}.proj_out", width, width, *kernel)


def _clip(name: str, width: int, inner: int, layers: int) -> Shapes:
    """A text encoder in the names of transformers, narrow and of few words."""
    yield from _layer(f"{name}.embeddings.token_embedding", 64, width, bias=False)
    yield from _layer(f"{name}.embeddings.position_embedding", 77, width, bias=False)
    for number in range(layers):
        layer = f"{name}.encoder.layers.{number}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{layer}.self_attn.{projection}", width, width)
        yield from _layer(f"{layer}.mlp.fc1", inner, width)
        yield from _layer(f"{layer}.mlp.fc2", width, inner)
        yield from _layer(f"{layer}.layer_norm1", width)
        yield from _layer(f"{layer}.layer_norm2", width)
    yield from _layer(f"{name}.final_layer_norm", width)


def _open_clip(name: str, width: int, inner: int) -> Shapes:
    """A text encoder of one layer in the names of OpenCLIP."""
    yield from _layer(f"{name}.token_embedding", 64, width, bias=False)
    yield f"{name}.positional_embedding", (77, width)
    block = f"{name}.transformer.resblocks.0"
    yield f"{block}.attn.in_proj_weight", (3 * width, width)
    yield f"{block}.attn.in_proj_bias", (3 * width,)
    yield from _layer(f"{block}.attn.out_proj", width, width)
    yield from _layer(f"{block}.mlp.c_fc", inner, width)
    yield from _layer(f"{block}.mlp.c_proj", width, inner)
    yield from _layer(f"{block}.ln_1", width)
    yield from _layer(f"{block}.ln_2", width)
    yield from _layer(f"{name}.ln_final", width)
    yield f"{name}.text_projection", (width, width)


def _vae(width: int = 32) -> Shapes:
    """The ends and the middles of a VAE."""
    for side, ins, outs in (("encoder", 3, 8), ("decoder", 4, 3)):
        name = f"first_stage_model.{side}"
        yield from _layer(f"{name}.conv_in", width, ins, 3, 3)
        for block in ("block_1", "block_2"):
            for number in (1, 2):
                yield from _layer(f"{name}.mid.{block}.norm{number}", width)
                yield from _layer(f"{name}.mid.{block}.conv{number}", width, width, 3, 3)
        yield from _layer(f"{name}.mid.attn_1.norm", width)
        for projection in ("q", "k", "v", "proj_out"):
            yield from _layer(f"{name}.mid.attn_1.{projection}", width, width, 1, 1)
        yield from _layer(f"{name}.norm_out", width)
        yield from _layer(f"{name}.conv_out", outs, width, 3, 3)
    yield from _layer("first_stage_model.quant_conv", 8, 8, 1, 1)
    yield from _layer("first_stage_model.post_quant_conv", 4, 4, 1, 1)
