"""A resized LoRA does in a model what the error of its resize says."""

from pathlib import Path

import pytest

from tests.builders import adapters
from tests.proofs.conftest import Surgeon
from tests.proofs.loras import CONVOLUTIONS, added_by_hand, write_lora
from tests.proofs.model import Model, Output, distance, moved
from trainer.weights.names import LINEAR_KINDS

#: Of float32 through a model: what is left of a difference that is none.
EXACT = 1e-4
#: A model is no linear map of ΔW: how much further its output may be off than ΔW is.
SLACK = 3.0


@pytest.fixture(scope="module")
def lora(model: Model, folder: Path) -> Path:
    """Rank 8, alpha 4, every attention, feed-forward and projection layer, text encoders included."""
    return write_lora(model, folder / f"resized-{model.family}.safetensors")


@pytest.fixture(scope="module")
def with_lora(model: Model, lora: Path) -> Output:
    output = model.with_loras((lora, 1.0))
    assert moved(model, output)
    return output


def test_the_same_rank_gives_the_same_output(
    model: Model, lora: Path, with_lora: Output, surgeon: Surgeon
) -> None:
    made = surgeon.resize(lora, method="fixed", rank=8)
    assert made.error <= 1e-5
    assert distance(model, model.with_loras((made.file, 1.0)), with_lora) <= EXACT


def test_lower_ranks_move_the_output_by_what_their_errors_say(
    sd15: Model, folder: Path, surgeon: Surgeon
) -> None:
    lora = write_lora(sd15, folder / "lowered.safetensors")
    wanted = sd15.with_loras((lora, 1.0))
    found = [surgeon.resize(lora, method="fixed", rank=rank) for rank in (6, 4, 2)]
    apart = [distance(sd15, sd15.with_loras((made.file, 1.0)), wanted) for made in found]
    assert apart == sorted(apart)
    for made, far in zip(found, apart, strict=True):
        assert made.error / SLACK <= far <= SLACK * made.error < SLACK


@pytest.mark.parametrize(("method", "value"), [("sv_ratio", 3.0), ("sv_cumulative", 0.8), ("sv_fro", 0.95)])
def test_dynamic_ranks_move_the_output_by_what_their_errors_say(
    sd15: Model, folder: Path, surgeon: Surgeon, method: str, value: float
) -> None:
    lora = write_lora(sd15, folder / f"{method}.safetensors")
    made = surgeon.resize(lora, method=method, rank=8, value=value)
    assert {module["new_rank"] for module in made.outcome["modules"]} != {8}
    far = distance(sd15, sd15.with_loras((made.file, 1.0)), sd15.with_loras((lora, 1.0)))
    assert 0 < far <= SLACK * made.error < SLACK


def test_an_alpha_for_every_rank_is_the_same_as_one_for_all(
    sd15: Model, folder: Path, surgeon: Surgeon
) -> None:
    """That with several is added by hand: diffusers 0.42.1 gives some modules the commonest of them."""
    lora = write_lora(sd15, folder / "alphas.safetensors")
    several, one = (
        surgeon.resize(lora, method="sv_fro", rank=8, value=0.95, alpha=rule)
        for rule in ("proportional", "even")
    )
    by_hand = added_by_hand(sd15, several.file, folder / "alphas-by-hand.safetensors")
    assert distance(sd15, sd15.as_checkpoint(by_hand), sd15.with_loras((one.file, 1.0))) <= EXACT


def test_sdxl_at_half_the_rank(sdxl: Model, folder: Path, surgeon: Surgeon) -> None:
    lora = write_lora(sdxl, folder / "halved.safetensors", seed=3)
    made = surgeon.resize(lora, method="fixed", rank=4, alpha="rank")
    far = distance(sdxl, sdxl.with_loras((made.file, 1.0)), sdxl.with_loras((lora, 1.0)))
    assert 0 < far <= SLACK * made.error < SLACK


def test_convolutions_have_a_rank_of_their_own(sd15: Model, folder: Path, surgeon: Surgeon) -> None:
    lora = write_lora(sd15, folder / "locon.safetensors", kinds=CONVOLUTIONS, rank=4, alpha=1.0)
    wanted = sd15.with_loras((lora, 1.0))
    linear = write_lora(sd15, folder / "linear.safetensors", kinds=LINEAR_KINDS, rank=4, alpha=1.0)
    assert distance(sd15, sd15.with_loras((linear, 1.0)), wanted) > 0.01
    same = surgeon.resize(lora, method="fixed", rank=4, conv_rank=4)
    less = surgeon.resize(lora, method="fixed", rank=4, conv_rank=2)
    assert distance(sd15, sd15.with_loras((same.file, 1.0)), wanted) <= EXACT
    assert EXACT < distance(sd15, sd15.with_loras((less.file, 1.0)), wanted) <= SLACK * less.error


def test_half_precision_moves_the_output_by_its_rounding(sd15: Model, folder: Path, surgeon: Surgeon) -> None:
    lora = write_lora(sd15, folder / "fp32.safetensors")
    made = surgeon.resize(lora, method="fixed", rank=8, dtype="fp16")
    far = distance(sd15, sd15.with_loras((made.file, 1.0)), sd15.with_loras((lora, 1.0)))
    assert 0 < far <= 5e-3


@pytest.mark.parametrize("network", ["loha", "lokr"])
def test_what_became_a_lora_does_what_it_did(
    sd15: Model, folder: Path, surgeon: Surgeon, network: str
) -> None:
    """LoHa and LoKr of rank 4 and of more; diffusers reads neither, so ΔW is added by hand."""
    tensors: adapters.Tensors = {}
    for number, site in enumerate(sd15.trained(*LINEAR_KINDS)[::5]):
        (out, inside, *kernel), name = site.shape, str(site.kohya)
        if network == "loha":
            tensors |= adapters.loha(name, site.shape, 2, alpha=300.0, seed=number)
        else:
            right = (out // 2, inside // 2, *kernel)
            tensors |= adapters.lokr(name, (2, 2), right, rank=2, alpha=30.0, seed=number)
    said = {"ss_base_model_version": "sd_v1"}  # layers this narrow are those of several families
    file = adapters.write(folder / f"{network}.safetensors", tensors, said)
    wanted = sd15.as_checkpoint(added_by_hand(sd15, file, folder / f"{network}-by-hand.safetensors"))
    assert moved(sd15, wanted)
    exact, low = (
        surgeon.resize(file, method="fixed", rank=rank, convert=True, dtype="fp32") for rank in (4, 2)
    )
    assert exact.error <= 1e-5 and not exact.outcome["unchanged"]
    assert distance(sd15, sd15.with_loras((exact.file, 1.0)), wanted) <= EXACT
    assert EXACT < distance(sd15, sd15.with_loras((low.file, 1.0)), wanted) <= SLACK * low.error
