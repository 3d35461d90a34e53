"""A checkpoint with a LoRA in it computes what checkpoint and LoRA compute; and the LoRA comes out again."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.builders import adapters
from tests.proofs.conftest import Made, Surgeon
from tests.proofs.loras import CONVOLUTIONS, added_by_hand, write_lora
from tests.proofs.model import Model, apart, distance, moved

EXACT = 1e-4
SLACK = 3.0


def test_a_baked_checkpoint_computes_what_the_lora_makes_of_it(
    model: Model, folder: Path, surgeon: Surgeon
) -> None:
    lora = write_lora(model, folder / f"baked-{model.family}.safetensors", every=1)
    wanted = model.with_loras((lora, 0.7))
    made = baked(surgeon, model, (lora, 0.7))
    assert moved(model, wanted)
    assert made.outcome["left_out_count"] == 0
    assert distance(model, model.as_checkpoint(made.file), wanted) <= EXACT


def test_several_loras_with_convolutions_are_baked_together(
    sd15: Model, folder: Path, surgeon: Surgeon
) -> None:
    first = write_lora(sd15, folder / "bake-1.safetensors", kinds=CONVOLUTIONS, alpha=None, seed=1)
    second = write_lora(sd15, folder / "bake-2.safetensors", rank=3, alpha=2.0, only="unet", seed=2)
    wanted = sd15.with_loras((first, 0.5), (second, -1.0))
    made = baked(surgeon, sd15, (first, 0.5), (second, -1.0))
    assert distance(sd15, sd15.as_checkpoint(made.file), wanted) <= EXACT


def test_a_baked_checkpoint_in_half_precision_is_off_by_its_rounding(
    sd15: Model, folder: Path, surgeon: Surgeon
) -> None:
    lora = write_lora(sd15, folder / "bake-half.safetensors")
    made = surgeon.merge("bake", model=path(sd15.file), loras=[{"model": path(lora)}], dtype="fp16")
    assert made.file.stat().st_size < 0.6 * sd15.file.stat().st_size
    assert distance(sd15, sd15.as_checkpoint(made.file), sd15.with_loras((lora, 1.0))) <= 0.02


def test_a_dora_is_baked_as_peft_computes_it(sd15: Model, folder: Path, surgeon: Surgeon) -> None:
    """Each row of W + ΔW with a length of its own: here 1.1 or 0.9 of what the row of W has."""
    weights = load_file(sd15.file)
    places = [site for site in sd15.trained("attention", "feed_forward")[::5] if site.component == "unet"]
    tensors: adapters.Tensors = {}
    for number, site in enumerate(places):
        tensors |= adapters.lora(str(site.kohya), site.shape, 4, alpha=4.0, seed=number)
        lengths = weights[site.weight].norm(dim=1, keepdim=True)
        tensors[f"{site.kohya}.dora_scale"] = lengths * (1.1 if number % 2 else 0.9)
    dora = adapters.write(folder / "dora.safetensors", tensors)
    wanted = sd15.with_dora(tensors, places, rank=4)
    made = baked(surgeon, sd15, (dora, 1.0))
    plain = {key: tensor for key, tensor in tensors.items() if "dora_scale" not in key}
    as_lora = baked(surgeon, sd15, (adapters.write(folder / "plain.safetensors", plain), 1.0))
    assert apart(wanted, sd15.as_checkpoint(as_lora.file)) > 0.01
    assert apart(sd15.as_checkpoint(made.file), wanted) <= 1e-5


def test_a_lora_comes_out_of_a_tuned_checkpoint(model: Model, folder: Path, surgeon: Surgeon) -> None:
    tuned = added_by_hand(
        model,
        write_lora(model, folder / f"tune-{model.family}.safetensors", seed=6),
        folder / f"tuned-{model.family}.safetensors",
    )
    wanted = model.as_checkpoint(tuned)
    made = extracted(surgeon, model, tuned, rank=8)
    assert moved(model, wanted)
    assert made.error <= 1e-3  # the difference of two float32 numbers has fewer digits than they
    assert distance(model, model.with_loras((made.file, 1.0)), wanted) <= 1e-3


def test_a_lora_of_a_lower_rank_is_as_far_off_as_it_says(sd15: Model, folder: Path, surgeon: Surgeon) -> None:
    lora = write_lora(sd15, folder / "tune-conv.safetensors", kinds=CONVOLUTIONS, seed=7)
    tuned = added_by_hand(sd15, lora, folder / "tuned-conv.safetensors")
    wanted = sd15.as_checkpoint(tuned)
    found = [extracted(surgeon, sd15, tuned, rank=rank, conv_rank=rank) for rank in (8, 5, 2)]
    apart = [distance(sd15, sd15.with_loras((made.file, 1.0)), wanted) for made in found]
    assert apart == sorted(apart)
    assert apart[0] <= 2e-3
    for made, far in zip(found[1:], apart[1:], strict=True):
        assert EXACT < far <= SLACK * made.error < SLACK


@pytest.mark.parametrize("naming", ["kohya", "peft"])
def test_what_is_baked_comes_out_again(sd15: Model, folder: Path, surgeon: Surgeon, naming: str) -> None:
    lora = write_lora(sd15, folder / f"round-{naming}.safetensors", seed=8)
    made = extracted(surgeon, sd15, baked(surgeon, sd15, (lora, 1.0)).file, rank=8, naming=naming)
    far = distance(sd15, sd15.with_loras((made.file, 1.0)), sd15.with_loras((lora, 1.0)))
    assert far <= 1e-3


def baked(surgeon: Surgeon, model: Model, *loras: tuple[Path, float]) -> Made:
    weighted = [{"model": path(file), "weight": weight} for file, weight in loras]
    return surgeon.merge("bake", model=path(model.file), loras=weighted)


def extracted(surgeon: Surgeon, model: Model, tuned: Path, **settings: Any) -> Made:
    return surgeon.merge("extract", tuned=path(tuned), base=path(model.file), dtype="fp32", **settings)


def path(file: Path) -> dict[str, str]:
    return {"path": str(file)}
