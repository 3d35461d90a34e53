"""What results of surgery are called when nobody has said."""

from typing import Any

import msgspec
import pytest

from contract.methods.merge import MergeSettings
from contract.methods.resize import ResizeSettings
from orchestrator.files.filenames import path_problem
from orchestrator.models.output_names import merged, resized

A, B = {"path": "/models/A style.safetensors"}, {"path": "C:\\models\\b.v2.safetensors"}
RECIPE = {
    "type": "recipe",
    "models": {"a": A, "b": B},
    "steps": {"final-1": {"method": "slerp", "inputs": ["a", "b"]}},
    "output": "final-1",
}


@pytest.mark.parametrize(
    ("settings", "file", "name"),
    [
        ({}, "/models/style.safetensors", "style-rank16"),
        ({"method": "sv_fro", "value": 0.9}, "/models/style.safetensors", "style-sv_fro"),
        ({"rank": 4}, "/models/no ending", "no ending-rank4"),
        ({"rank": 4}, "file:///models/a%FFb.safetensors", "a_b-rank4"),
        ({"rank": 4}, f"/models/{'x' * 250}.safetensors", None),
    ],
)
def test_a_resized_lora_is_called_after_it(settings: Any, file: str, name: str | None) -> None:
    made = resized(msgspec.to_builtins(msgspec.convert(settings, ResizeSettings)), [file])
    assert path_problem(made) is None
    assert name is None or made == name


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"type": "loras", "loras": [{"model": A}, {"model": B}], "method": "svd"}, "A style-svd"),
        ({"type": "checkpoints", "models": [{"model": B}, {"model": A}]}, "b.v2-weighted_sum"),
        ({"type": "bake", "model": A, "loras": [{"model": B}]}, "A style-baked"),
        ({"type": "extract", "tuned": B, "base": A}, "b.v2-rank32"),
        (RECIPE, "final-1"),
    ],
)
def test_a_merge_is_called_after_its_first_model_or_its_last_step(settings: Any, name: str) -> None:
    made = merged(msgspec.to_builtins(msgspec.convert(settings, MergeSettings)), [])
    assert made == name
    assert path_problem(made) is None
