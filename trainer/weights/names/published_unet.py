"""Keys and shapes of the U-Nets of Stable Diffusion at their published sizes, from their configurations.

The configurations are those of the original code (`v1-inference.yaml`, `v2-inference.yaml`,
`sd_xl_base.yaml`, `sd_xl_refiner.yaml`); the order of the blocks is that of its `UNetModel`.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from trainer.weights.names.site import Shape

Weight = tuple[str, Shape]


class UNet(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration. `depths` are the transformer layers by level, 0 for levels without attention, `middle`
    those in the middle. `context` is the width of the text; `linear`: proj_in and proj_out are linear layers
    and not 1 × 1 convolutions; `vector` is the width of the class vector, 0 where there is none."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    middle: int
    context: int
    linear: bool
    vector: int = 0
    layers: int = 2
    latent: int = 4


def unet_weights(model: UNet) -> Iterator[Weight]:
    """Every weight of it, without biases, in the names of the original code."""
    width, time = model.channels[0], model.channels[0] * 4
    yield from _ends(model, width, time)
    skips = [width]
    here, number = width, 1
    for level, channels in enumerate(model.channels):
        for _ in range(model.layers):
            yield from _block(model, f"input_blocks.{number}", here, channels, model.depths[level])
            here, number = channels, number + 1
            skips.append(here)
        if level < len(model.channels) - 1:
            yield f"input_blocks.{number}.0.op.weight", (here, here, 3, 3)
            number += 1
            skips.append(here)
    yield from _resnet("middle_block.0", here, here, time)
    yield from _transformer("middle_block.1", here, model.middle, model)
    yield from _resnet("middle_block.2", here, here, time)
    yield from _output(model, here, skips)


def _ends(model: UNet, width: int, time: int) -> Iterator[Weight]:
    yield "time_embed.0.weight", (time, width)
    yield "time_embed.2.weight", (time, time)
    if model.vector:
        yield "label_emb.0.0.weight", (time, model.vector)
        yield "label_emb.0.2.weight", (time, time)
    yield "input_blocks.0.0.weight", (width, model.latent, 3, 3)
    yield "out.0.weight", (width,)
    yield "out.2.weight", (model.latent, width, 3, 3)


def _output(model: UNet, here: int, skips: list[int]) -> Iterator[Weight]:
    number = 0
    for level in reversed(range(len(model.channels))):
        channels, depth = model.channels[level], model.depths[level]
        for layer in range(model.layers + 1):
            name = f"output_blocks.{number}"
            yield from _block(model, name, here + skips.pop(), channels, depth)
            here, number = channels, number + 1
            if level and layer == model.layers:
                yield f"{name}.{2 if depth else 1}.conv.weight", (here, here, 3, 3)


def _block(model: UNet, name: str, before: int, channels: int, depth: int) -> Iterator[Weight]:
    yield from _resnet(f"{name}.0", before, channels, model.channels[0] * 4)
    if depth:
        yield from _transformer(f"{name}.1", channels, depth, model)


def _resnet(name: str, before: int, channels: int, time: int) -> Iterator[Weight]:
    yield f"{name}.in_layers.0.weight", (before,)
    yield f"{name}.in_layers.2.weight", (channels, before, 3, 3)
    yield f"{name}.emb_layers.1.weight", (channels, time)
    yield f"{name}.out_layers.0.weight", (channels,)
    yield f"{name}.out_layers.3.weight", (channels, channels, 3, 3)
    if before != channels:
        yield f"{name}.skip_connection.weight", (channels, before, 1, 1)


def _transformer(name: str, channels: int, depth: int, model: UNet) -> Iterator[Weight]:
    square = (channels, channels)
    projection = square if model.linear else (*square, 1, 1)
    yield f"{name}.norm.weight", (channels,)
    yield f"{name}.proj_in.weight", projection
    for layer in range(depth):
        inner = f"{name}.transformer_blocks.{layer}"
        for attention, width in (("attn1", channels), ("attn2", model.context)):
            yield f"{inner}.{attention}.to_q.weight", square
            yield f"{inner}.{attention}.to_k.weight", (channels, width)
            yield f"{inner}.{attention}.to_v.weight", (channels, width)
            yield f"{inner}.{attention}.to_out.0.weight", square
        yield f"{inner}.ff.net.0.proj.weight", (channels * 8, channels)
        yield f"{inner}.ff.net.2.weight", (channels, channels * 4)
        for norm in ("norm1", "norm2", "norm3"):
            yield f"{inner}.{norm}.weight", (channels,)
    yield f"{name}.proj_out.weight", projection


SD15: Final = UNet(channels=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), middle=1, context=768, linear=False)
SD2: Final = UNet(channels=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), middle=1, context=1024, linear=True)
SDXL: Final = UNet(
    channels=(320, 640, 1280), depths=(0, 2, 10), middle=10, context=2048, linear=True, vector=2816
)
SDXL_REFINER: Final = UNet(
    channels=(384, 768, 1536, 1536), depths=(0, 4, 4, 0), middle=4, context=1280, linear=True, vector=2560
)
