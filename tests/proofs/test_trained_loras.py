"""A LoRA that was trained here does in a fresh pipeline of diffusers what the model did in training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.builders import adapters
from tests.proofs.model import Model
from tests.proofs.trained import SETTINGS, Output, Trained, computed_by, trained
from trainer.networks import write_adapter
from trainer.networks.writing import AdapterNaming

EXACT = 1e-4


@pytest.fixture(scope="module", params=SETTINGS)
def after_training(model: Model, request: pytest.FixtureRequest) -> Iterator[Trained]:
    with trained(model, request.param) as found:
        assert moved(found.after, found.before)
        yield found


@pytest.mark.parametrize("naming", ["kohya", "peft"])
def test_a_fresh_pipeline_computes_what_the_trained_model_does(
    model: Model, after_training: Trained, naming: AdapterNaming, tmp_path: Path
) -> None:
    found = _with_file(model, after_training, tmp_path, naming)
    assert moved(found, after_training.before)
    assert distance(found, after_training.after) <= EXACT


def test_each_module_of_the_file_is_the_change_of_its_weight(
    model: Model, after_training: Trained, tmp_path: Path
) -> None:
    """By the definition, up · down · alpha ÷ rank, for programs that are not diffusers."""
    file = tmp_path / "made.safetensors"
    write_adapter(after_training.network, str(file), {}, dtype="fp32")
    tensors = load_file(file)
    places = after_training.network.places
    assert set(adapters.modules_of(tensors)) == set(places)
    for name, place in places.items():
        module = place.module
        wanted = (module.up.flatten(1) @ module.down.flatten(1)).detach().double() * module.scale
        found = adapters.dense(tensors, name, module.shape)
        torch.testing.assert_close(found, wanted.reshape(module.shape), rtol=1e-4, atol=1e-7)


def moved(found: Output, before: Output) -> bool:
    """Whether every part gives something else, by far more than what rounding does."""
    return all(float((found[part] - own).norm()) > 0.01 * float(own.norm()) for part, own in before.items())


def distance(found: Output, wanted: Output) -> float:
    """The largest difference of two numbers in any part."""
    return max(float((found[part].double() - wanted[part].double()).abs().max()) for part in wanted)


def _with_file(model: Model, training: Trained, folder: Path, naming: AdapterNaming) -> Output:
    write_adapter(training.network, str(folder / "made.safetensors"), {}, dtype="fp32", naming=naming)
    pipeline = model.opened(model.file)
    pipeline.load_lora_weights(folder, weight_name="made.safetensors")
    return computed_by(pipeline)
