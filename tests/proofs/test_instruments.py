"""What the proofs measure with: a LoRA that diffusers loads is ΔW added by hand."""

from pathlib import Path

from tests.proofs.loras import CONVOLUTIONS, added_by_hand, write_lora
from tests.proofs.model import Model, apart, distance, moved
from trainer.weights.names import LINEAR_KINDS


def test_a_lora_that_diffusers_loads_is_one_that_is_added_by_hand(model: Model, folder: Path) -> None:
    kinds = CONVOLUTIONS if model.family == "sd15" else LINEAR_KINDS
    lora = write_lora(model, folder / f"loaded-{model.family}.safetensors", kinds=kinds, every=1)
    added = added_by_hand(model, lora, folder / f"added-{model.family}.safetensors", 0.6)
    wanted = model.with_loras((lora, 0.6))
    assert moved(model, wanted)
    assert distance(model, model.as_checkpoint(added), wanted) <= 1e-4


def test_a_lora_is_gone_once_it_is_unloaded(sd15: Model, folder: Path) -> None:
    before = sd15.own
    assert moved(sd15, sd15.with_loras((write_lora(sd15, folder / "gone.safetensors"), 1.0)))
    assert apart(sd15.now(), before) == 0


def test_a_lora_with_another_alpha_is_another(sd15: Model, folder: Path) -> None:
    """Else a lost alpha would not be seen."""
    lora = write_lora(sd15, folder / "alpha-4.safetensors", alpha=4.0)
    other = write_lora(sd15, folder / "alpha-8.safetensors", alpha=8.0)
    wanted = sd15.with_loras((lora, 1.0))
    assert distance(sd15, sd15.with_loras((other, 1.0)), wanted) > 0.5
    assert distance(sd15, sd15.with_loras((other, 0.5)), wanted) <= 1e-4


def test_the_whole_of_a_model_is_read_from_its_single_file(model: Model) -> None:
    assert apart(model.as_checkpoint(model.file), model.own) <= 1e-5
    assert apart(model.as_averaged([(model.file, 1.0)]), model.own) <= 1e-5
    assert set(model.parts) == set(model.own)
    assert {site.kind for site in model.trained(*LINEAR_KINDS)} == set(LINEAR_KINDS)
