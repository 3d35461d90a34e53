"""All of the metadata together: what they follow from, and what they must not say."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open
from torch import nn

from contract.methods.train_file import train_file
from contract.methods.training.network import LoraNetwork
from contract.methods.training.recipe import as_training_table, decode_recipe
from contract.methods.weights import RECIPE_KEY
from tests.trainer.output.parts import MOMENT, facts, pictures, settings, subset
from trainer.output import ModelFile, training_metadata
from trainer.sampling.prompts import prompts_of

_TIMES = {"ss_training_started_at", "ss_training_finished_at", "ss_session_id", "modelspec.date"}
VAE = ModelFile(name="v.safetensors", sha256="ab" * 32, old="12345678")
START = ModelFile(name="first.safetensors", sha256="cd" * 32, old="00000000")


def _whole(folder: str, **changed: Any) -> dict[str, str]:
    own = settings(
        model={
            "base": {"path": f"{folder}/sd15_tiny.safetensors"},
            "vae": {"path": f"{folder}/v.safetensors"},
        },
        network={"type": "locon", "start_from": {"path": f"{folder}/first.safetensors"}},
        metadata={"description": "d", "tags": ["a"]},
        subsets=[{"name": "10_cat", "repeats": 2}],
    )
    every = [
        msgspec.structs.replace(each, path=f"{folder}/{each.path.rpartition('/')[2]}") for each in pictures()
    ]
    known: dict[str, Any] = {
        "own": own,
        "vae": VAE,
        "start_from": START,
        "pictures": every,
        "subsets": [subset("10_cat", f"{folder}/10_cat", repeats=2)],
    }
    return training_metadata(facts(**(known | changed)), MOMENT)


def test_they_have_no_folder_of_this_machine() -> None:
    for folder in ("/home/ann/secret", "C:\\Users\\ann\\secret"):
        assert not [key for key, text in _whole(folder).items() if "ann" in text or "secret" in text]


def test_the_same_training_elsewhere_and_at_another_time_says_the_same_but_for_the_times() -> None:
    first = _whole("/home/ann")
    later = msgspec.structs.replace(MOMENT, at=MOMENT.at + 5)
    second = training_metadata(facts(session=1, started_at=2.0), later)
    other = _whole("/mnt/b", session=1, started_at=2.0)
    assert list(first) == list(other) == sorted(first)
    assert {key for key in first if first[key] != other[key]} == _TIMES - {
        "ss_training_finished_at",
        "modelspec.date",
    }
    plain = training_metadata(facts(), MOMENT)
    assert {key for key in plain if plain[key] != second[key]} == _TIMES


def test_the_recipe_gives_the_toml_that_says_the_same_again() -> None:
    first = _whole("/home/ann")
    recipe = decode_recipe(first[RECIPE_KEY], "a.safetensors")
    files: Any = {
        "model.base": "/mnt/b/sd15_tiny.safetensors",
        "model.vae": "/mnt/b/v.safetensors",
        "network.start_from": "/mnt/b/first.safetensors",
    }
    training = train_file(as_training_table(recipe, files=files, folders=["/mnt/b/pictures"]))
    assert training.settings.model.base.path == "/mnt/b/sd15_tiny.safetensors"
    assert training.settings.model.base.sha256 == "4c" * 32
    assert training.output is not None
    again = _whole("/mnt/b", own=training.settings, name=training.output.name)
    assert again == first


def test_a_file_of_prompts_becomes_prompts_so_that_it_is_not_needed(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat --w 640 --l 5.5\n# no\na dog --n blurry --d 7\n", encoding="utf-8")
    own = settings(sampling={"file": str(file), "every_epochs": 1, "negative": "ugly"})
    made = prompts_of(own.sampling, (512, 512))
    first = training_metadata(facts(own, prompts=made), MOMENT)
    recipe = decode_recipe(first[RECIPE_KEY], "a.safetensors")
    assert recipe.settings.sampling.file is None
    again = train_file(as_training_table(recipe)).settings
    assert prompts_of(again.sampling, (512, 512)) == made
    same = training_metadata(facts(again, prompts=made), MOMENT)
    assert same == first
    assert str(tmp_path) not in first[RECIPE_KEY]


def test_prompts_that_no_line_can_say_leave_no_samples_in_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    file.write_text('[{"prompt": "a --w b"}]', encoding="utf-8")
    own = settings(sampling={"file": str(file), "every_epochs": 1})
    made = prompts_of(own.sampling, (512, 512))
    said = training_metadata(facts(own, prompts=made), MOMENT)
    assert decode_recipe(said[RECIPE_KEY], "a").settings.sampling.prompts == []


def test_names_of_files_that_are_no_text_do_no_harm() -> None:
    odd = ModelFile(name="m\udcff.safetensors", sha256="ab" * 32, old="12345678")
    said = training_metadata(facts(name="ink\udcff", base=odd, vae=odd, start_from=odd), MOMENT)
    assert (said["ss_output_name"], said["ss_vae_name"]) == ("ink?", "m?.safetensors")
    assert all(text.encode() for text in said.values())


def test_the_recipe_is_left_out_where_that_is_chosen() -> None:
    assert RECIPE_KEY not in training_metadata(facts(settings(metadata={"recipe": False})), MOMENT)


@pytest.mark.parametrize("naming", ["kohya", "peft"])
def test_a_file_has_them_with_the_hashes_of_who_writes_it(naming: Any, tmp_path: Path) -> None:
    from trainer.networks import inject, write_adapter

    path = str(tmp_path / "made.safetensors")
    network = inject("sd15", {"te1": _text()}, LoraNetwork(rank=2), seed=0)
    said = _whole("/home/ann")
    write_adapter(network, path, said, naming=naming)
    with safe_open(path, "pt") as file:
        found = file.metadata()
    assert {key: text for key, text in found.items() if not key.startswith("sshs_")} == said
    assert set(found) - set(said) == {"sshs_model_hash", "sshs_legacy_hash"}
    assert len(found["sshs_model_hash"]) == 64


def _text() -> nn.Module:
    from trainer.fixtures import models

    with torch.device("meta"):
        encoder = models.make_encoder(models.FAMILIES["sd15"].encoders[0])
    return encoder.to_empty(device="cpu")
