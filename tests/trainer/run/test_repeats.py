"""What a LoRA says of how it was made is enough to make it again, to the last byte."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import tomlkit

from contract.methods.train_file import train_file
from contract.methods.training.recipe import FileField, as_training_table, decode_recipe
from contract.methods.weights import RECIPE_KEY
from tests.trainer.run import runs

#: Whatever chance has a part in, and a little of everything that settings say.
_ALL: Final[dict[str, Any]] = {
    "training": {"steps": 2, "accumulation": 3, "batch_size": 1, "seed": 11, "max_grad_norm": 0.5},
    "data": {
        "random_crop": True,
        "flip": True,
        "captions": {"shuffle": True, "tag_dropout": 0.3, "caption_dropout": 0.2, "keep_tokens": 1},
    },
    "network": {"dropout": 0.2, "rank_dropout": 0.1},
    "objective": {"noise_offset": 0.05, "loss": {"type": "smooth_l1"}, "min_timestep": 50},
    "optimizer": {"type": "lion", "text_encoder_rate": 1e-4, "learning_rate": 1e-3},
    "schedule": {"type": "cosine_with_restarts", "warmup_share": 0.5, "cycles": 2},
}
#: With everything encoded before the first step; begun with another LoRA.
_CACHED: Final[dict[str, Any]] = {
    "training": {"steps": 3, "batch_size": 2},
    "data": {"flip": True, "captions": {"shuffle": True, "max_tokens": 150}},
    "caching": {"caption_variants": 2, "dtype": "fp16"},
    "optimizer": {"type": "adamw_schedule_free"},
    "schedule": {"type": "constant", "warmup_steps": 1},
    "saving": {"dtype": "bf16"},
    "metadata": {"title": "A cat", "tags": ["cat"], "trigger_phrase": "a cat"},
}


def test_the_recipe_in_a_lora_gives_the_same_bytes(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases[family], source, tmp_path / "first", **_ALL)
    runs.go(asked)
    _repeat(asked.output, {"model.base": bases[family]}, source, tmp_path / "again")


def test_so_it_does_where_a_training_began_with_another_lora(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    before = runs.request(bases["sd15"], source, tmp_path / "before", training={"steps": 1})
    runs.go(before)
    start = {"network": {"start_from": {"path": before.output}}}
    asked = runs.request(bases["sd15"], source, tmp_path / "first", **_CACHED, **start)
    runs.go(asked)
    files: dict[FileField, Path] = {
        "model.base": bases["sd15"],
        "network.start_from": Path(before.output),
    }
    _repeat(asked.output, files, source, tmp_path / "again")


def test_another_seed_gives_others(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    made = []
    for seed in (1, 2):
        asked = runs.request(bases["sd15"], source, tmp_path / str(seed), training={"steps": 1, "seed": seed})
        runs.go(asked)
        made.append(runs.content(asked.output)[1])
    assert made[0] != made[1]


@pytest.mark.parametrize("naming", ["kohya", "peft"])
def test_both_namings_have_the_recipe(
    naming: str, bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(
        bases["sd15"], source, tmp_path / "place", training={"steps": 1}, saving={"naming": naming}
    )
    runs.go(asked)
    said, _ = runs.content(asked.output)
    assert decode_recipe(said[RECIPE_KEY], asked.output).settings.saving.naming == naming


def _repeat(made: str, files: Mapping[FileField, Path], source: Path, folder: Path) -> None:
    """Train what the file says, by way of a TOML file, and compare everything."""
    said, tensors = runs.content(made)
    recipe = decode_recipe(said[RECIPE_KEY], made)
    assert recipe.name == "cat"
    # No folder of anybody's machine is told to the world.
    assert not any(str(source.parent) in value for value in said.values())
    tables = as_training_table(
        recipe, files={field: str(path) for field, path in files.items()}, folders=[str(source)]
    )
    again = train_file(tomllib.loads(tomlkit.dumps(tables)))
    assert again.source is not None and again.source.folders == [str(source)]
    asked = runs.request(files["model.base"], source, folder, **msgspec.to_builtins(again.settings))
    runs.go(asked)
    said_again, tensors_again = runs.content(asked.output)
    assert tensors_again == tensors
    assert said_again == said
