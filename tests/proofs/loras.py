"""LoRAs for the small models, and checkpoints with a LoRA added by hand, from the definitions alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.builders import adapters
from tests.proofs.model import Model
from trainer.weights.names import LINEAR_KINDS, Site

#: Kinds of modules that a LoCon trains.
CONVOLUTIONS = (*LINEAR_KINDS, "conv")
#: Every so many of a family's modules, where nothing but the architecture is to be seen: a layer of a U-Net
#: has ten or twelve of them and one of a text encoder six, so that each kind has its turn.
EVERY = {"sd15": 5, "sdxl": 11}


def write_lora(
    model: Model,
    file: Path,
    *,
    rank: int = 8,
    alpha: float | None = 4.0,
    kinds: Iterable[str] = LINEAR_KINDS,
    only: str = "",
    every: int | None = None,
    seed: int = 0,
    spectrum: adapters.Spectrum = "decaying",
) -> Path:
    """A LoRA of the modules of these kinds, in kohya's names; `only` those whose name contains it, and of
    those `every` so many, which is as many as EVERY says if it is left out."""
    tensors: adapters.Tensors = {}
    for number, site in enumerate(model.trained(*kinds)[:: every or EVERY[model.family]]):
        name = str(site.kohya)
        if only in name:
            tensors |= adapters.lora(
                name, site.shape, rank, alpha=alpha, spectrum=spectrum, seed=1000 * seed + number
            )
    return adapters.write(file, tensors, {"ss_network_module": "networks.lora"})


def share_downs(file: Path, source: Path) -> Path:
    """Give the LoRA in `file` the down factors of that in `source`."""
    tensors, others = load_file(file), load_file(source)
    downs = {key: tensor for key, tensor in others.items() if "lora_down" in key}
    return adapters.write(file, tensors | downs, {})


def deltas(model: Model, lora: Path) -> Mapping[Site, torch.Tensor]:
    """ΔW of each place, dense, with alpha ÷ rank, float64."""
    tensors = load_file(lora)
    found = {}
    for name in adapters.modules_of(tensors):
        site = model.sites.find(name)
        assert site is not None, name
        found[site] = adapters.dense(tensors, name, site.shape)
    return found


def added_by_hand(model: Model, lora: Path, file: Path, weight: float = 1.0) -> Path:
    """The model's checkpoint with weight · ΔW added to the rows of each place."""
    tensors = load_file(model.file)
    for site, delta in deltas(model, lora).items():
        start, end = site.rows or (0, len(tensors[site.weight]))
        tensors[site.weight][start:end] += (weight * delta).to(torch.float32)
    save_file(tensors, file)
    return file
