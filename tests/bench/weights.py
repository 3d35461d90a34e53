"""Files of weights with the shapes of real ones and random numbers, made once.

Their values decide nothing about time but that they are random and of a usual size: a checkpoint repeats one
block of random numbers from another place for each tensor, a LoRA is random throughout, with a spectrum that
falls, so that dynamic methods have something to choose.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench import cache
from trainer.fixtures import models, original, write
from trainer.weights.names import LINEAR_KINDS, Site, published, sites
from trainer.weights.tensor_file import open_weights
from trainer.weights.tensor_writer import TensorSpec, TensorWriter

#: Numbers in the block that checkpoints are filled from: 32 MB, prime, so that no tensor begins where another
#: does.
_BLOCK: Final = 16_777_213
#: Standard deviation of the weights of a checkpoint.
_STD: Final = 0.02
#: Each direction of a LoRA is this much of the one before.
_FALL: Final = 0.95


#: What kohya's trainer changes where that is not the same as in Stable Diffusion: of FLUX every matrix in the
#: transformer's blocks.
_TRAINED: Final[Mapping[str, Callable[[Site], bool]]] = {
    "flux1": lambda site: site.component == "unet" and site.block != "BASE" and len(site.shape) == 2,
}


class Scale(NamedTuple):
    """Widths of Stable Diffusion 1.5 divided by `divisor`."""

    name: str
    divisor: int


#: 2.13 GB in half precision, about a quarter of that, and a few MB to see that something runs.
FULL, HALF, SMALL = Scale("full", 1), Scale("half", 2), Scale("small", 16)


def checkpoint(scale: Scale, number: int) -> Path:
    """A checkpoint with the keys and shapes of Stable Diffusion 1.5, fp16; each `number` is another."""
    name = f"checkpoint-{scale.name}-{number}"
    folder = cache.made(
        name, lambda folder: _write(folder / "model.safetensors", _sd15(scale.divisor), number)
    )
    return folder / "model.safetensors"


def sdxl() -> Path:
    """A checkpoint with the keys and shapes of SDXL, fp16, 6.9 GB."""
    folder = cache.made("checkpoint-sdxl", lambda folder: _write(folder / "model.safetensors", _sdxl(), 0))
    return folder / "model.safetensors"


def small(family: str) -> Path:
    """A checkpoint of a family with all its blocks and small widths, fp32."""
    folder = cache.made(f"small-{family}", lambda folder: write(family, folder, dtype="fp32"))
    return folder / f"{family}.safetensors"


def lora(family: str, rank: int, number: int, scale: Scale = FULL) -> Path:
    """A LoRA of every layer of a family that kohya's trainer changes, in its names, fp16.

    Of `family` as it is published, or, scaled, of a checkpoint of that scale; each `number` is another.
    """
    name = f"lora-{family}-{scale.name}-r{rank}-{number}"
    places = list(_trained(family, scale))
    folder = cache.made(name, lambda folder: _write_lora(folder / "lora.safetensors", places, rank, number))
    return folder / "lora.safetensors"


def modules(family: str, scale: Scale = FULL) -> int:
    """How many modules such a LoRA has."""
    return sum(1 for _ in _trained(family, scale))


def _trained(family: str, scale: Scale) -> Iterator[Site]:
    found = published(family) if scale == FULL else sites(family, _shapes_of(checkpoint(scale, 0)))
    is_trained = _TRAINED.get(family, _is_linear)
    return (site for site in found.all if site.kohya is not None and is_trained(site))


def _is_linear(site: Site) -> bool:
    return site.kind in LINEAR_KINDS


def _shapes_of(path: Path) -> dict[str, list[int]]:
    with open_weights(str(path)) as file:
        return {name: list(tensor.shape) for name, tensor in file.header.tensors.items()}


def _write(path: Path, family: models.Family, number: int) -> None:
    import torch

    source = torch.Generator().manual_seed(number)
    numbers = (torch.randn(_BLOCK, generator=source) * _STD).half()
    block = memoryview(numbers.view(torch.uint8).numpy().data)
    specs = [TensorSpec(name, "F16", shape) for name, shape in _shapes(family).items()]
    start = 0
    with TensorWriter(str(path), specs, {}) as writer:
        for spec in writer.order:
            left = 2 * math.prod(spec.shape)
            while left:
                part = block[start : start + left]
                writer.write(part)
                left -= len(part)
                start = (start + len(part)) % len(block)
        writer.finish()


def _shapes(family: models.Family) -> Mapping[str, tuple[int, ...]]:
    """Keys and shapes of the single file; no number is made."""
    import torch

    with torch.device("meta"):
        texts = [models.make_encoder(each) for each in family.encoders]
        parts = models.make_unet(family), models.make_vae(family), *texts
    unet, vae, *others = (part.state_dict() for part in parts)
    tensors = original.original_file(family.name, unet, vae, others)
    return {key: tuple(tensor.shape) for key, tensor in tensors.items() if tensor.is_meta}


def _sd15(divisor: int) -> models.Family:
    """Stable Diffusion 1.5 as published (`v1-inference.yaml`), its widths divided."""
    small = models.FAMILIES["sd15"]
    return small._replace(
        unet={
            **small.unet,
            "block_out_channels": tuple(width // divisor for width in (320, 640, 1280, 1280)),
            "cross_attention_dim": 768 // divisor,
            "attention_head_dim": 4,
            "norm_num_groups": 32 // divisor,
        },
        vae={
            **small.vae,
            "block_out_channels": tuple(width // divisor for width in (128, 256, 512, 512)),
            "norm_num_groups": 32 // divisor,
        },
        encoders=(small.encoders[0]._replace(width=768 // divisor, tokens=49408 // divisor),),
    )


def _sdxl() -> models.Family:
    """SDXL as published (`sd_xl_base.yaml`)."""
    small = models.FAMILIES["sdxl"]
    first, second = small.encoders
    return small._replace(
        unet={
            **small.unet,
            "block_out_channels": (320, 640, 1280),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "norm_num_groups": 32,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 6 * 256 + 1280,
        },
        vae={**small.vae, "block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32},
        encoders=(first._replace(width=768, tokens=49408), second._replace(width=1280, tokens=49408)),
    )


def _write_lora(path: Path, places: list[Site], rank: int, number: int) -> None:
    import torch
    from safetensors.torch import save_file

    source = torch.Generator().manual_seed(number)
    falling = _FALL ** torch.arange(rank)
    tensors: dict[str, torch.Tensor] = {}
    for place in places:
        out, columns = place.shape[0], place.shape[1:]
        ends = (1,) * len(columns[1:])
        up = torch.randn(out, rank, generator=source) * falling / math.sqrt(rank)
        down = torch.randn(rank, *columns, generator=source) / math.sqrt(math.prod(columns))
        tensors[f"{place.kohya}.lora_up.weight"] = up.reshape(out, rank, *ends).half()
        tensors[f"{place.kohya}.lora_down.weight"] = down.half()
        tensors[f"{place.kohya}.alpha"] = torch.tensor(rank / 2).half()
    said = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank / 2),
    }
    save_file(tensors, path, metadata=said)
