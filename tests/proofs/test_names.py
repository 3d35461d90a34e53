"""A LoRA in other names is the same LoRA."""

from pathlib import Path

import torch
from safetensors import safe_open

from tests.proofs.conftest import Surgeon
from tests.proofs.loras import CONVOLUTIONS, deltas, write_lora
from tests.proofs.model import Model, distance, moved
from trainer.weights.names import LINEAR_KINDS

EXACT = 1e-4


def test_kohya_to_peft_and_back(model: Model, folder: Path, surgeon: Surgeon) -> None:
    """Every module, of SD1.5 with its convolutions."""
    kinds = CONVOLUTIONS if model.family == "sd15" else LINEAR_KINDS
    lora = write_lora(model, folder / f"kohya-{model.family}.safetensors", kinds=kinds, every=1)
    peft = surgeon.resize(lora, method="fixed", rank=8, naming="peft")
    again = surgeon.resize(peft.file, method="fixed", rank=8, naming="kohya")
    wanted = model.with_loras((lora, 1.0))
    assert moved(model, wanted)
    assert all("lora_unet_" not in key for key in keys(peft.file))
    assert distance(model, model.with_loras((peft.file, 1.0)), wanted) <= EXACT
    assert keys(again.file) == keys(lora)
    before, after = deltas(model, lora), deltas(model, again.file)
    assert all(torch.dist(after[site], delta) <= EXACT * delta.norm() for site, delta in before.items())


def test_through_names_that_diffusers_does_not_read(model: Model, folder: Path, surgeon: Surgeon) -> None:
    lora = write_lora(model, folder / f"to-generic-{model.family}.safetensors", seed=5)
    there = surgeon.resize(lora, method="fixed", rank=8, naming="generic")
    back = surgeon.resize(there.file, method="fixed", rank=8, naming="kohya")
    assert keys(there.file).isdisjoint(keys(lora))
    far = distance(model, model.with_loras((back.file, 1.0)), model.with_loras((lora, 1.0)))
    assert far <= EXACT


def keys(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as tensors:
        return set(tensors.keys())
