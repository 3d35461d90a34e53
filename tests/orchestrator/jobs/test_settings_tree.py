"""Looking through settings along their types."""

from typing import Any

import msgspec
import pytest

from contract.methods.merge import MergeSettings, Recipe
from contract.methods.metadata import MetadataSettings
from contract.methods.tag import TaggerModel, TagSettings
from contract.methods.weights import WeightsFile
from orchestrator.jobs.settings_tree import paths_in, replaced, structs_in

RECIPE = {
    "type": "recipe",
    "models": {"a": "model_a", "path": {"path": "/b.safetensors"}},
    "steps": {
        "s": {
            "method": "bake",
            "inputs": ["a"],
            "alpha_blocks": "GRAD_V",
            "loras": [{"model": "model_l"}, {"model": {"path": "/l.safetensors"}, "weight": 0.5}],
        }
    },
    "output": "s",
    "vae_file": "model_v",
}


def _files(wanted: Any, settings: Any) -> dict[str, Any]:
    return {where: value for struct, value, where in structs_in(wanted, settings) if struct is WeightsFile}


@pytest.mark.parametrize("wanted", [MergeSettings, Recipe])
def test_every_file_of_weights_is_found_wherever_it_stands(wanted: Any) -> None:
    assert _files(wanted, RECIPE) == {
        '$.settings.models["a"]': "model_a",
        '$.settings.models["path"]': {"path": "/b.safetensors"},
        '$.settings.steps["s"].loras[0].model': "model_l",
        '$.settings.steps["s"].loras[1].model': {"path": "/l.safetensors"},
        "$.settings.vae_file": "model_v",
    }


def test_only_what_is_replaced_is_another() -> None:
    def name(struct: type[msgspec.Struct], value: Any, where: str) -> Any:
        return {"path": f"/{value}"} if struct is WeightsFile and isinstance(value, str) else value

    made = replaced(MergeSettings, RECIPE, name)
    assert made["models"] == {"a": {"path": "/model_a"}, "path": {"path": "/b.safetensors"}}
    assert made["steps"]["s"]["loras"][0] == {"model": {"path": "/model_l"}}
    assert made["steps"]["s"]["alpha_blocks"] == "GRAD_V"
    assert replaced(MergeSettings, RECIPE, lambda struct, value, where: value) == RECIPE


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"type": "nothing", "loras": [1]},
        {"type": "loras", "loras": "x", "more": {"model": "y"}},
        {"type": "loras", "loras": [None, 5, {"model": 7}]},
        {"type": "recipe", "models": [], "steps": {"a": None}},
    ],
)
def test_what_fits_nothing_is_left_for_others_to_refuse(settings: Any) -> None:
    assert replaced(MergeSettings, settings, lambda struct, value, where: value) == settings


def test_paths_are_known_by_their_fields_and_not_by_texts_of_users() -> None:
    metadata = {"set": {"ss_path": "C:/me", "file": "x"}, "remove": ["path"], "strip_paths": True}
    assert list(paths_in(MetadataSettings, metadata)) == []
    tagging = {"model": {"repo": None, "path": "/tagger"}, "replace": {"file": "x"}}
    assert list(paths_in(TagSettings, tagging)) == [("$.settings.model.path", "/tagger")]
    whole = msgspec.to_builtins(msgspec.convert(_spelled(), MergeSettings))
    assert [where for where, _ in paths_in(MergeSettings, whole)] == [
        f"{where}.path" for where in _files(MergeSettings, whole)
    ]


def test_a_tagger_is_found_by_its_name_too() -> None:
    found = [(struct, value) for struct, value, _ in structs_in(TagSettings, {"model": "wd-vit-v3"})]
    assert found == [(TagSettings, {"model": "wd-vit-v3"}), (TaggerModel, "wd-vit-v3")]


def _spelled() -> Any:
    return replaced(
        MergeSettings,
        RECIPE,
        lambda struct, value, where: (
            {"path": value} if struct is WeightsFile and isinstance(value, str) else value
        ),
    )
