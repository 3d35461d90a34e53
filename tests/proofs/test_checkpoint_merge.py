"""A merged checkpoint computes what a pipeline with weights put together by hand computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.proofs.conftest import Made, Surgeon
from tests.proofs.model import Model, apart
from trainer.fixtures import write

EXACT = 1e-5


@pytest.fixture(scope="module")
def files(model: Model, folder: Path) -> list[Path]:
    """The model itself and two others of its family."""
    others = (write(model.family, folder / f"seed-{seed}", seed=seed, dtype="fp32") for seed in (1, 2))
    return [model.file, *(other.file for other in others)]


@pytest.fixture(scope="module")
def sd15_files(sd15: Model, folder: Path) -> list[Path]:
    others = (write("sd15", folder / f"other-{seed}", seed=seed, dtype="fp32") for seed in (3, 4))
    return [sd15.file, *(other.file for other in others)]


def test_a_weighted_sum_computes_what_averaged_weights_compute(
    model: Model, files: list[Path], surgeon: Surgeon
) -> None:
    made = merged(surgeon, files[:2], weights=(0.3, 0.7))
    wanted = model.as_averaged([(files[0], 0.3), (files[1], 0.7)])
    found = model.as_checkpoint(made.file)
    assert apart(found, wanted) <= EXACT
    assert apart(found, model.own) > 0.1


def test_add_difference_computes_what_it_is_by_hand(
    sd15: Model, sd15_files: list[Path], surgeon: Surgeon
) -> None:
    a, b, c = sd15_files
    made = merged(surgeon, [a, b, c], method="add_difference", alpha=0.4)
    wanted = sd15.as_averaged([(a, 1.0), (b, 0.4), (c, -0.4)])
    assert apart(sd15.as_checkpoint(made.file), wanted) <= EXACT


def test_a_model_merged_with_itself_is_itself(model: Model, surgeon: Surgeon) -> None:
    made = merged(surgeon, [model.file, model.file], weights=(0.5, 0.5))
    before, after = load_file(model.file), load_file(made.file)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_parts_come_from_where_they_are_to_come_from(
    sd15: Model, sd15_files: list[Path], surgeon: Surgeon
) -> None:
    a, b, _ = sd15_files
    components = {"text_encoders": "2", "vae": "2"}
    made = merged(surgeon, [a, b], weights=(0.5, 0.5), components=components)
    half, second = sd15.as_averaged([(a, 0.5), (b, 0.5)]), sd15.as_checkpoint(b)
    found = sd15.as_checkpoint(made.file)
    assert torch.equal(found["text_encoder"], second["text_encoder"])
    assert apart(found, half) > 0.05
    tensors, wanted = load_file(made.file), load_file(b)
    assert all(torch.equal(tensors[key], wanted[key]) for key in wanted if key.startswith("first_stage"))


def test_blocks_have_weights_of_their_own(
    sd15: Model, sd15_files: list[Path], folder: Path, surgeon: Surgeon
) -> None:
    """In the order of Merge Block Weighted: what is outside the U-Net, IN00 to IN11, M00, OUT00 to OUT11."""
    a, b, _ = sd15_files
    blocks = [round(0.04 * index, 2) for index in range(26)]
    models = [
        {"model": {"path": str(a)}, "blocks": [1 - each for each in blocks]},
        {"model": {"path": str(b)}, "blocks": blocks},
    ]
    made = surgeon.merge("checkpoints", models=models, method="weighted_sum")
    first, second = load_file(a), load_file(b)
    by_hand = {key: torch.lerp(first[key], second[key], blocks[_place(key)]) for key in _floats(first)}
    save_file(first | by_hand, folder / "blocks-by-hand.safetensors")
    wanted = sd15.as_checkpoint(folder / "blocks-by-hand.safetensors")
    assert apart(sd15.as_checkpoint(made.file), wanted) <= EXACT
    assert apart(wanted, sd15.as_averaged([(a, 0.5), (b, 0.5)])) > 0.05


def test_half_precision_is_off_by_its_rounding(sd15: Model, sd15_files: list[Path], surgeon: Surgeon) -> None:
    a, b, _ = sd15_files
    made = merged(surgeon, [a, b], weights=(0.5, 0.5), dtype="fp16")
    wanted = sd15.as_averaged([(a, 0.5), (b, 0.5)])
    assert 0 < apart(sd15.as_checkpoint(made.file), wanted) <= 0.01


def _place(key: str) -> int:
    """Where the block of a tensor stands among the 26; the ends of the U-Net belong to its outer blocks."""
    if not key.startswith("model.diffusion_model."):
        return 0
    name, number = key.split(".")[2:4]
    inside = {"input_blocks": 1, "output_blocks": 14}
    return inside[name] + int(number) if name in inside else {"middle_block": 13, "out": 25}.get(name, 1)


def _floats(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    return [key for key, tensor in tensors.items() if tensor.is_floating_point()]


def merged(
    surgeon: Surgeon, files: list[Path], weights: tuple[float, ...] | None = None, **settings: Any
) -> Made:
    models = [
        {"model": {"path": str(file)}, "weight": weight}
        for file, weight in zip(files, weights or (1.0,) * len(files), strict=True)
    ]
    return surgeon.merge("checkpoints", models=models, **({"method": "weighted_sum"} | settings))
