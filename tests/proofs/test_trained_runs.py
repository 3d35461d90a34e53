"""The file of a whole run does in a fresh pipeline of diffusers what the run had learnt, and says how to do
it again."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomlkit
import torch
from safetensors import safe_open

from contract.methods.train_file import train_file
from contract.methods.training.recipe import as_training_table, decode_recipe
from contract.methods.weights import RECIPE_KEY
from tests.proofs.model import Model
from tests.proofs.trained import Output, computed, computed_by
from tests.trainer.run import runs
from trainer.checkpoints.folder import CheckpointFolder
from trainer.checkpoints.snapshot import load_snapshot
from trainer.families import FAMILIES, ModelFiles
from trainer.networks import inject
from trainer.run.request import Request

EXACT = 1e-4
NETWORKS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "rank": 4, "alpha": 2.0, "include": []},
    "locon": {"type": "locon", "rank": 4, "alpha": 2.0, "conv_rank": 2, "conv_alpha": 3.0, "include": []},
}


@pytest.mark.parametrize(
    ("kind", "naming"),
    [
        ("lora", "kohya"),
        # The files of these are looked at in every run by test_trained_loras.
        pytest.param("locon", "kohya", marks=pytest.mark.slow),
        pytest.param("lora", "peft", marks=pytest.mark.slow),
    ],
)
def test_the_file_of_a_run_is_the_model_that_it_trained(
    model: Model, kind: str, naming: str, tmp_path: Path
) -> None:
    source = runs.pictures(tmp_path / "source", count=2)
    asked = runs.request(
        model.file,
        source,
        tmp_path,
        network=NETWORKS[kind],
        optimizer={"type": "adamw", "learning_rate": 0.02, "text_encoder_rate": 0.01},
        schedule={"type": "constant"},
        saving={"naming": naming},
    )
    outcome = runs.go(asked)
    pipeline = model.opened(model.file)
    before = computed_by(pipeline)
    pipeline.load_lora_weights(tmp_path, weight_name=Path(asked.output).name)
    found, wanted = computed_by(pipeline), _in_training(model, asked)
    for part, own in before.items():
        assert float((found[part] - own).norm()) > 0.01 * float(own.norm())
        assert float((found[part] - wanted[part]).abs().max()) <= EXACT
    with safe_open(asked.output, "pt") as file:
        said = file.metadata()
    assert said["ss_steps"] == str(outcome.steps) == "3"
    assert decode_recipe(said[RECIPE_KEY], asked.output).base.name == model.file.name
    assert str(tmp_path) not in "".join(said.values())


def test_the_recipe_in_a_file_makes_the_same_file_elsewhere(sd15: Model, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat --s 1 --w 64 --h 64 --l 2\n", encoding="utf-8")
    source = runs.pictures(tmp_path / "source", count=3)
    first = runs.request(
        sd15.file,
        source,
        tmp_path / "first",
        network={"type": "locon", "dropout": 0.1},
        data={"flip": True, "captions": {"shuffle": True, "tag_dropout": 0.2}},
        optimizer={"type": "adamw", "learning_rate": 0.02, "text_encoder_rate": 0.01},
        sampling={"file": str(prompts), "every_steps": 2, "at_start": False},
    )
    first = msgspec.structs.replace(first, prompts=str(prompts))
    runs.go(first)
    prompts.unlink()
    with safe_open(first.output, "pt") as file:
        recipe = decode_recipe(file.metadata()[RECIPE_KEY], first.output)
    table = as_training_table(recipe, files={"model.base": str(sd15.file)}, folders=[str(source)])
    training = train_file(tomllib.loads(tomlkit.dumps(table)))
    assert training.output is not None
    (tmp_path / "second").mkdir()
    second = msgspec.structs.replace(
        first,
        settings=training.settings,
        prompts=None,
        folder=str(tmp_path / "second" / "run"),
        output=str(tmp_path / "second" / f"{training.output.name}.safetensors"),
        cache=str(tmp_path / "other-cache"),
    )
    runs.go(second)
    assert runs.content(second.output) == runs.content(first.output)


@torch.no_grad()
def _in_training(model: Model, asked: Request) -> Output:
    """What the model computes with the network as the last checkpoint has it, over our own reader's model."""
    checkpoint = CheckpointFolder(str(Path(asked.folder) / "checkpoints")).newest().checkpoint
    assert checkpoint is not None
    loaded = FAMILIES[model.family].load(ModelFiles(model=str(model.file)), torch.float32)
    assert loaded.denoiser is not None
    parts = {"unet": loaded.denoiser, **loaded.text_encoders}
    network = inject(model.family, parts, asked.settings.network, seed=0)
    network.load(load_snapshot(checkpoint).adapter)
    return computed(loaded)
