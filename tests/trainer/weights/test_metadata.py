"""What is written about a file: edits, and what an output says of itself."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from contract.base import Strict
from contract.methods.weights import WeightsFile
from trainer.weights.metadata import RECIPE, after_merge, after_resize, edited, number, recipe_text
from trainer.weights.tensor_file import TensorFile, open_weights

_BEFORE = {
    "ss_network_dim": "64",
    "ss_network_alpha": "32",
    "ss_training_comment": "None",
    "ss_tag_frequency": "{}",
    "ss_sd_model_name": "/home/anna/base.safetensors",
    "sshs_model_hash": "0" * 64,
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.title": "Mine",
    "modelspec.hash_sha256": "0x00",
    "other": "kept",
}


# Edits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "removed"),
    [
        (["other"], {"other"}),
        (["ss_*"], {key for key in _BEFORE if key.startswith("ss_")}),
        (["*hash*", "no such key"], {"sshs_model_hash", "modelspec.hash_sha256"}),
        (["*"], set(_BEFORE)),
        (["oth[e]r", "o.her", "OTHER", "othe"], set()),
    ],
)
def test_keys_are_removed_by_pattern(patterns: list[str], removed: set[str]) -> None:
    after = edited(_BEFORE, set_={}, remove=patterns, strip_paths=False)
    assert set(_BEFORE) - set(after) == removed
    assert after.items() <= _BEFORE.items()


def test_a_pattern_reaches_over_lines() -> None:
    assert edited({"a\nb": ""}, set_={}, remove=["a*"], strip_paths=False) == {}


def test_texts_are_set_after_keys_are_removed_and_stay_as_they_are() -> None:
    after = edited({"a": "1", "b": "/x/y"}, set_={"a": "2", "c": "/p/q"}, remove=["*a*"], strip_paths=True)
    assert after == {"b": "y", "a": "2", "c": "/p/q"}


# Outputs ----------------------------------------------------------------------------------------------------


def _resized(method: str = "fixed", value: float | None = None, **changes: object) -> dict[str, str]:
    facts = {"family": "sdxl", "old_ranks": [64, 64], "ranks": [16, 16], "alphas": [8.0, 8.0], **changes}
    return after_resize(_BEFORE, method=method, value=value, **facts)  # type: ignore[arg-type]


def test_a_resized_adapter_says_its_new_rank_and_what_was_done() -> None:
    after = _resized()
    assert (after["ss_network_dim"], after["ss_network_alpha"]) == ("16", "8")
    assert after["ss_training_comment"] == "dimension is resized from 64 to 16; "
    assert after["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert (after["other"], after["modelspec.title"]) == ("kept", "Mine")
    assert not {"sshs_model_hash", "modelspec.hash_sha256"} & set(after)


def test_ranks_that_differ_are_dynamic() -> None:
    after = _resized("sv_fro", 0.7, ranks=[3, 5], alphas=[1.5, 2.5])
    assert (after["ss_network_dim"], after["ss_network_alpha"]) == ("Dynamic", "Dynamic")
    assert after["ss_training_comment"] == "Dynamic resize with sv_fro: 0.7 from 64; "
    assert (number([4, 4]), number([0.5]), number([1, 2]), number([])) == ("4", "0.5", "Dynamic", "Dynamic")


def test_a_comment_goes_on() -> None:
    before = {"ss_training_comment": "mine"}
    after = after_resize(
        before, family=None, old_ranks=[8], ranks=[4], alphas=[4], method="fixed", value=None
    )
    assert after["ss_training_comment"] == "dimension is resized from 8 to 4; mine"
    assert "modelspec.architecture" not in after


@pytest.mark.parametrize(
    ("stated", "family", "said"),
    [
        ("flux-1-schnell/lora", "flux1", "flux-1-schnell/lora"),
        ("stable-diffusion-3-5-large/lora", "sd3", "stable-diffusion-3-5-large/lora"),
        ("stable-diffusion-xl-v1-refiner/lora", "sdxl", "stable-diffusion-xl-v1-base/lora"),
        ("stable-diffusion-v1/lora", "flux2", "flux-2/lora"),
        ("", "anima", "anima-preview/lora"),
    ],
)
def test_the_architecture_is_that_of_the_family_and_a_variant_of_it_stays(
    stated: str, family: str, said: str
) -> None:
    after = after_resize(
        {"modelspec.architecture": stated},
        family=family,
        old_ranks=[8],
        ranks=[4],
        alphas=[4],
        method="fixed",
    )
    assert after["modelspec.architecture"] == said


def _file(folder: Path, name: str, metadata: Mapping[str, str]) -> TensorFile:
    path = folder / f"{name}.safetensors"
    save_file({"a": torch.zeros(1)}, path, dict(metadata) or None)
    return open_weights(str(path))


def test_a_merged_adapter_says_what_its_inputs_agree_on(tmp_path: Path) -> None:
    common = {"ss_network_dim": "8", "ss_network_module": "networks.lora", "ss_base_model_version": "sd_v1"}
    one = {**common, "modelspec.license": "MIT", "modelspec.title": "One", "modelspec.resolution": "1x1"}
    with (
        _file(tmp_path, "a", one) as first,
        _file(tmp_path, "b", common) as second,
    ):
        said = after_merge(
            [first, second],
            family="sdxl",
            recipe="{}",
            ranks=[16],
            alphas=[8.0],
        )
    assert said == {
        "modelspec.resolution": "1x1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": "One + b",
        "modelspec.merged_from": "One, b",
        "modelspec.implementation": "diffusers",
        "ss_network_module": "networks.lora",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_v2": "False",
        "ss_network_dim": "16",
        "ss_network_alpha": "8",
        RECIPE: "{}",
    }


def test_a_checkpoint_with_a_lora_in_it_stays_the_variant_that_it_is(tmp_path: Path) -> None:
    model = {"modelspec.architecture": "stable-diffusion-v2-768-v", "modelspec.prediction_type": "v"}
    with _file(tmp_path, "a", model) as first, _file(tmp_path, "b", {"ss_network_dim": "8"}) as second:
        said = after_merge([first, second], family="sd2", recipe="{}")
    assert said["modelspec.architecture"] == "stable-diffusion-v2-768-v"
    assert said["modelspec.prediction_type"] == "v"
    assert not any(key.startswith("ss_") for key in said)


def test_files_of_no_known_family_say_nothing_of_one(tmp_path: Path) -> None:
    with _file(tmp_path, "a", {}) as first:
        assert after_merge([first], family=None, recipe="r") == {RECIPE: "r"}


class _Settings(Strict, frozen=True, kw_only=True):
    files: dict[str, WeightsFile]
    weight: float = 0.5


def test_a_recipe_names_files_and_their_hashes_and_no_folders() -> None:
    settings = _Settings(
        files={
            "b": WeightsFile(path="C:\\models\\b.safetensors"),
            "a": WeightsFile(path="/home/anna/a.safetensors", sha256="0" * 64),
        }
    )
    text = recipe_text(settings, {"C:\\models\\b.safetensors": "1" * 64})
    assert text == (
        '{"files":{"a":{"path":"a.safetensors","sha256":"' + "0" * 64 + '"},'
        '"b":{"path":"b.safetensors","sha256":"' + "1" * 64 + '"}},"weight":0.5}'
    )
