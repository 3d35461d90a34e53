"""A merged LoRA does in a model what its LoRAs do together, as far as the stated error says.

diffusers 0.42.1 forgets the alphas of attention layers and of text encoders where a file in kohya's names
has more than one alpha. So what has modules of several ranks is loaded with the same alpha everywhere (rule
`one`) or in peft's names, which say no alpha, or it is added to the checkpoint by hand.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.proofs.conftest import Surgeon
from tests.proofs.loras import added_by_hand, share_downs, write_lora
from tests.proofs.model import Model, Output, distance, moved

EXACT = 1e-4
SLACK = 3.0
#: Of the two LoRAs; one is taken away.
WEIGHTS = (0.8, -0.5)


class Pair(NamedTuple):
    """Two LoRAs of different ranks and alphas, the second for some modules only, and both in the model."""

    first: Path
    second: Path
    together: Output


@pytest.fixture(scope="module")
def pair(model: Model, folder: Path) -> Pair:
    first = write_lora(model, folder / f"first-{model.family}.safetensors", rank=4, alpha=4.0, seed=1)
    second = folder / f"second-{model.family}.safetensors"
    write_lora(model, second, rank=6, alpha=2.0, kinds=("attention", "proj"), seed=2)
    together = model.with_loras((first, WEIGHTS[0]), (second, WEIGHTS[1]))
    assert moved(model, together)
    return Pair(first, second, together)


@pytest.fixture(scope="module")
def equals(sd15: Model, folder: Path) -> Pair:
    """Two LoRAs of one rank that differ in everything else."""
    first = write_lora(sd15, folder / "equal-1.safetensors", seed=3)
    second = write_lora(sd15, folder / "equal-2.safetensors", seed=4)
    return Pair(first, second, sd15.with_loras((first, WEIGHTS[0]), (second, WEIGHTS[1])))


@pytest.mark.parametrize("how", [{"alpha": "one"}, {"naming": "peft"}])
def test_concat_is_both_together(model: Model, pair: Pair, surgeon: Surgeon, how: Mapping[str, str]) -> None:
    made = surgeon.merge("loras", loras=weighted(pair), method="concat", **how)
    assert distance(model, model.with_loras((made.file, 1.0)), pair.together) <= EXACT


def test_svd_of_the_sum_of_the_ranks_is_both_together(
    model: Model, pair: Pair, folder: Path, surgeon: Surgeon
) -> None:
    """With an alpha of its own for every rank, so added by hand."""
    made = surgeon.merge("loras", loras=weighted(pair), method="svd", rank=10)
    by_hand = added_by_hand(model, made.file, folder / f"svd-{model.family}.safetensors")
    assert made.error <= 1e-5
    assert distance(model, model.as_checkpoint(by_hand), pair.together) <= EXACT


def test_svd_of_a_lower_rank_is_as_far_off_as_it_says(sd15: Model, equals: Pair, surgeon: Surgeon) -> None:
    found = [surgeon.merge("loras", loras=weighted(equals), method="svd", rank=rank) for rank in (12, 8, 4)]
    apart = [distance(sd15, sd15.with_loras((made.file, 1.0)), equals.together) for made in found]
    assert apart == sorted(apart)
    for made, far in zip(found, apart, strict=True):
        assert EXACT < far <= SLACK * made.error < SLACK


def test_add_is_as_far_off_as_it_says(sd15: Model, equals: Pair, surgeon: Surgeon) -> None:
    made = surgeon.merge("loras", loras=weighted(equals), method="add")
    far = distance(sd15, sd15.with_loras((made.file, 1.0)), equals.together)
    assert made.error / SLACK <= far <= SLACK * made.error


def test_add_of_loras_that_share_a_factor_is_both_together(
    sd15: Model, equals: Pair, folder: Path, surgeon: Surgeon
) -> None:
    sharing = write_lora(sd15, folder / "sharing.safetensors", seed=9)
    other = Pair(equals.first, share_downs(sharing, equals.first), {})
    wanted = sd15.with_loras((other.first, WEIGHTS[0]), (other.second, WEIGHTS[1]))
    made = surgeon.merge("loras", loras=weighted(other), method="add")
    assert made.error <= 1e-5
    assert distance(sd15, sd15.with_loras((made.file, 1.0)), wanted) <= EXACT


def test_dare_that_drops_nothing_is_both_together(sd15: Model, equals: Pair, surgeon: Surgeon) -> None:
    made = surgeon.merge("loras", loras=weighted(equals), method="dare", density=1.0, rank=16)
    assert distance(sd15, sd15.with_loras((made.file, 1.0)), equals.together) <= EXACT


def test_ties_of_one_lora_that_keeps_everything_is_that_lora(
    sd15: Model, equals: Pair, surgeon: Surgeon
) -> None:
    loras = [{"model": {"path": str(equals.first)}, "weight": 1.0}]
    made = surgeon.merge("loras", loras=loras, method="ties", density=1.0, rank=8)
    wanted = sd15.with_loras((equals.first, 1.0))
    assert distance(sd15, sd15.with_loras((made.file, 1.0)), wanted) <= EXACT


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_what_drops_half_moves_the_model_and_says_how_far_its_rank_is_off(
    sd15: Model, equals: Pair, surgeon: Surgeon, method: str
) -> None:
    """The error is that of the rank, against the whole of what the method gives."""
    how = {"method": method, "density": 0.5, "seed": 1, "alpha": "one"}
    full, low = (surgeon.merge("loras", loras=weighted(equals), rank=rank, **how) for rank in (48, 12))
    wanted = sd15.with_loras((full.file, 1.0))
    assert moved(sd15, wanted)
    assert full.error <= 1e-4
    assert EXACT < distance(sd15, sd15.with_loras((low.file, 1.0)), wanted) <= SLACK * low.error


def test_components_have_weights_of_their_own(sd15: Model, equals: Pair, surgeon: Surgeon) -> None:
    lora = {"model": {"path": str(equals.first)}, "weight": 0.7, "components": {"te1": 0.2}}
    made = surgeon.merge("loras", loras=[lora], method="concat")
    wanted = sd15.with_loras((equals.first, {"unet": 0.7, "text_encoder": 0.2}))
    assert distance(sd15, sd15.with_loras((made.file, 1.0)), wanted) <= EXACT


def weighted(pair: Pair) -> list[Mapping[str, Any]]:
    files = (pair.first, pair.second)
    return [
        {"model": {"path": str(file)}, "weight": weight} for file, weight in zip(files, WEIGHTS, strict=True)
    ]
