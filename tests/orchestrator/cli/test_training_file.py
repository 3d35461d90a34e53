"""A training as people write it: what lies over what, where paths are told from, what is said of slips."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import SettingsInvalid
from contract.fields import nested
from contract.methods.train_file import TrainFile
from orchestrator.cli.training_file import PATHS, Layer, source_of, told_from, training_of
from orchestrator.cli.values import assignment
from orchestrator.cli.values import nested as as_tables
from orchestrator.jobs.settings_tree import paths_in

_LEAST: dict[str, Any] = {"model": {"base": "base.safetensors"}, "training": {"epochs": 10}}


def _read(*said: str, file: dict[str, Any] | None = None, preset: dict[str, Any] | None = None) -> TrainFile:
    layers = [
        Layer("preset mild", told_from("/presets", preset or {})),
        Layer("cat.toml", told_from("/files", _LEAST | (file or {}))),
        Layer("--set", told_from("/here", as_tables([assignment(each) for each in said]))),
    ]
    return training_of(layers, "cat.toml")


def _problems(*said: str, **tables: Any) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        _read(*said, **tables)
    return [
        f"{each['said_in']}: {each['where']}: {each['message']}" for each in caught.value.details["problems"]
    ]


def test_flags_lie_over_the_file_and_the_file_over_the_preset() -> None:
    preset = {"network": {"rank": 4, "alpha": 2.0}, "training": {"batch_size": 3}, "data": {"flip": True}}
    training = _read("network.rank=32", preset=preset, file={"network": {"rank": 8}})
    assert (training.network.rank, training.network.alpha) == (32, 2.0)
    assert (training.training.epochs, training.training.batch_size, training.data.flip) == (10, 3, True)
    assert _read("training.steps=50").training.epochs is None


def test_paths_are_told_from_where_they_are_said() -> None:
    file = {
        "model": {"base": "models/a.safetensors", "vae": {"path": "/far/vae.safetensors"}},
        "source": {"folders": ["pictures", "../more"]},
        "output": {"name": "cat", "folder": "made"},
        "sampling": {"file": "prompts.txt", "every_steps": 5},
    }
    training = _read("network.start_from=old.safetensors", file=file)
    assert training.model.base.path == "/files/models/a.safetensors"
    assert training.model.vae is not None and training.model.vae.path == "/far/vae.safetensors"
    assert source_of(training).folders == ["/files/pictures", "/more"]
    assert training.output is not None and training.output.folder == "/files/made"
    assert training.sampling.file == "/files/prompts.txt"
    assert training.network.start_from is not None
    assert training.network.start_from.path == "/here/old.safetensors"


def test_every_field_that_names_a_file_is_told_from_somewhere() -> None:
    file = {
        "model": {"base": "a", "vae": "b"},
        "network": {"start_from": "c", "type": "locon"},
        "source": {"folders": ["d"]},
        "output": {"name": "cat", "folder": "e"},
        "sampling": {"file": "f", "every_steps": 1},
    }
    whole = msgspec.to_builtins(_read(file=file))
    assert {path for _, path in paths_in(TrainFile, whole)} == {f"/files/{name}" for name in "abcef"}
    named = {struct for struct in _structs(TrainFile) if any(_is_path(each) for each in _fields(struct))}
    assert named == PATHS.keys()


def _structs(struct: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    inside = {each for field in msgspec.structs.fields(struct) for each in nested(field.type)}
    return {struct} | {each for found in inside for each in _structs(found)}


def _fields(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    return struct.__struct_fields__


def _is_path(name: str) -> bool:
    return name in ("path", "file", "folder", "folders")


def test_with_names_what_is_no_file_is_the_name_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "here.safetensors").touch()
    told = told_from(str(tmp_path), {"model": {"base": "here.safetensors", "vae": "somewhere"}}, names=True)
    assert told["model"] == {
        "base": {"path": str(tmp_path / "here.safetensors")},
        "vae": {"path": "somewhere"},
    }


def test_what_is_wrong_is_said_with_the_place_that_said_it() -> None:
    assert _problems(
        "training.batch_size=0",
        file={"training": {"epochs": 1, "seed": -1}},
        preset={"network": {"rank": 0}},
    ) == [
        "preset mild: network.rank: expected `int` >= 1",
        "--set: training.batch_size: expected `int` >= 1",
        "cat.toml: training.seed: expected `int` >= 0",
    ]
    with pytest.raises(SettingsInvalid, match=r"^cat\.toml: training\.epochs: is required"):
        training_of([Layer("cat.toml", {"model": {"base": {"path": "/a"}}, "training": {}})], "cat.toml")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("data.captions.shufle=true", "is not a known field; did you mean `shuffle`?"),
        ("training.learning_rate=1", "is not a known field; it stands in [optimizer]"),
        ("smpling={}", "is not a known field; did you mean `sampling`?"),
        ('subsets=[{name="a", repeat=2}]', "is not a known field; did you mean `repeats`?"),
        ("memory.blocks=3", "is not a known field; there are gradient_checkpointing"),
        ("optimizer.r=1.0", "is not a known field; there are learning_rate, text_encoder_rate, rates, betas, "
         "eps, weight_decay"),
        ("optimizer.type=adam", "is none of adamw, adamw8bit, lion, adafactor, prodigy, adamw_schedule_free, "
         "sgd_schedule_free, radam_schedule_free, custom"),
    ],
)  # fmt: skip
def test_a_slip_is_told_what_may_be_meant(said: str, words: str) -> None:
    (problem,) = _problems(said)
    assert problem.startswith("--set: ") and problem.endswith(f": {words}")


def test_several_problems_are_a_list_of_lines() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        _read("training.epochs=0", "network.rank=0")
    assert caught.value.message.splitlines() == [
        "2 settings are wrong:",
        "  --set: network.rank: expected `int` >= 1",
        "  --set: training.epochs: expected `int` >= 1",
    ]
