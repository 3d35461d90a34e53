"""Recipes in files, and inside of what was made from them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import FileMissing, FileUnreadable, SettingsInvalid
from contract.methods.merge import Bake, Recipe
from orchestrator.cli.recipes import embedded_recipe, output_beside, read_recipe
from tests.orchestrator.models.files import write_model

TEXT = """
[merge]
output = "final"
dtype = "fp16"
vae_file = "../vae.safetensors"

[models]
a = "a.safetensors"

[models.b]
path = "/models/b.safetensors"
sha256 = "{sha}"

[steps.mixed]
method = "slerp"
inputs = ["a", "b"]
alpha = 0.3

[steps.final]
method = "bake"
inputs = ["mixed"]
loras = [{{ model = "loras/l.safetensors", weight = 0.8 }}]
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_in_a_recipe_are_told_from_where_it_lies(tmp_path: Path) -> None:
    recipe = read_recipe(_written(tmp_path, TEXT.format(sha="a" * 64)))
    assert recipe.models["a"].path == str(tmp_path / "a.safetensors")
    assert (recipe.models["b"].path, recipe.models["b"].sha256) == ("/models/b.safetensors", "a" * 64)
    assert recipe.steps["final"].loras[0].model.path == str(tmp_path / "loras" / "l.safetensors")
    assert recipe.vae_file is not None and recipe.vae_file.path == str(tmp_path.parent / "vae.safetensors")
    assert (recipe.output, recipe.dtype, recipe.steps["mixed"].alpha) == ("final", "fp16", 0.3)
    assert output_beside(tmp_path / "recipe.toml") == str(tmp_path / "recipe.safetensors")


def test_a_lora_may_stand_among_the_models(tmp_path: Path) -> None:
    text = TEXT.format(sha="a" * 64).replace('"loras/l.safetensors"', '"style"')
    text = text.replace("[models]\n", '[models]\nstyle = "loras/l.safetensors"\n')
    recipe = read_recipe(_written(tmp_path, text))
    assert recipe.models.keys() == {"a", "b"}
    assert recipe.steps["final"].loras[0].model.path == str(tmp_path / "loras" / "l.safetensors")
    # What a step takes for a checkpoint stays one.
    both = read_recipe(_written(tmp_path, text.replace('["a", "b"]', '["a", "style"]')))
    assert both.models.keys() == {"a", "b", "style"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            "[merge]\noutput = 'x'\n[models]\na = 'a'\n[steps.s]\nmethod = 'slerp'\ninputs = ['a', 'b']",
            "output",
        ),
        ("[models]\na = 5\n[steps.s]\nmethod='max'\ninputs=['a','a']\n[merge]\noutput='s'", 'models["a"]'),
        ("[merge]\noutput = 's'\n[model.a]\npath = 'x'", "model"),
        ("merge = 1", "merge"),
        ("[merge]\noutput = 's'\n[models]\na = 'a'", "steps"),
        (
            "[merge]\noutput='s'\n[models]\na='a'\n[steps.s]\nmethod='ortho'\ninputs=['a']",
            'steps["s"].method',
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"recipe\.toml") as refused:
        read_recipe(_written(tmp_path, text))
    assert refused.value.where == where


def _made(path: Path, recipe: Any) -> Path:
    return write_model(path, metadata={"lorakeet_recipe": json.dumps(recipe)})


def _recipe(**models: Any) -> dict[str, Any]:
    steps = {"s": {"method": "weighted_sum", "inputs": list(models)}}
    return {"type": "recipe", "models": models, "steps": steps, "output": "s"}


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_models_of_a_recipe_inside_are_found_beside_it_and_in_folders(tmp_path: Path) -> None:
    beside = write_model(tmp_path / "out" / "a.safetensors")
    below = write_model(tmp_path / "models" / "deep" / "b.safetensors")
    output = _made(
        tmp_path / "out" / "made.safetensors",
        _recipe(a={"path": "a.safetensors", "sha256": _sha(beside)}, b={"path": "b.safetensors"}),
    )
    settings = embedded_recipe(output, [str(tmp_path / "models")])
    assert isinstance(settings, Recipe)
    assert settings.models["a"].path == str(beside)
    assert settings.models["a"].sha256 == _sha(beside)
    assert settings.models["b"].path == str(below)


def test_of_several_files_of_one_name_the_hash_says_which(tmp_path: Path) -> None:
    write_model(tmp_path / "a.safetensors")
    meant = write_model(tmp_path / "models" / "a.safetensors", metadata={"other": "one"})
    output = _made(tmp_path / "made.safetensors", _recipe(a={"path": "a.safetensors", "sha256": _sha(meant)}))
    assert embedded_recipe(output, [str(tmp_path / "models")]).models["a"].path == str(meant)


def test_every_kind_of_merge_can_be_inside(tmp_path: Path) -> None:
    write_model(tmp_path / "m.safetensors")
    write_model(tmp_path / "l.safetensors")
    said = {
        "type": "bake",
        "model": {"path": "m.safetensors"},
        "loras": [{"model": {"path": "l.safetensors"}, "weight": 0.5}],
    }
    settings = embedded_recipe(_made(tmp_path / "made.safetensors", said), [])
    assert isinstance(settings, Bake)
    assert [settings.model.path, settings.loras[0].model.path] == [
        str(tmp_path / "m.safetensors"),
        str(tmp_path / "l.safetensors"),
    ]


def test_a_model_that_is_nowhere_is_named(tmp_path: Path) -> None:
    output = _made(tmp_path / "made.safetensors", _recipe(a={"path": "gone.safetensors"}))
    with pytest.raises(FileMissing, match=r"gone\.safetensors") as missing:
        embedded_recipe(output, [str(tmp_path)])
    assert missing.value.hint is not None and "--models" in missing.value.hint


def test_a_file_without_a_recipe_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="has no recipe"):
        embedded_recipe(write_model(tmp_path / "plain.safetensors"), [])
    with pytest.raises(SettingsInvalid, match="type"):
        embedded_recipe(_made(tmp_path / "strange.safetensors", {"models": {}}), [])
    broken = write_model(tmp_path / "broken.safetensors", metadata={"lorakeet_recipe": "{"})
    with pytest.raises(SettingsInvalid, match="is not JSON"):
        embedded_recipe(broken, [])
    with pytest.raises(FileMissing):
        embedded_recipe(tmp_path / "no.safetensors", [])
    (tmp_path / "short.safetensors").write_bytes(b"abc")
    with pytest.raises(FileUnreadable, match="no whole safetensors file"):
        embedded_recipe(tmp_path / "short.safetensors", [])


def test_a_recipe_survives_the_way_through_json(tmp_path: Path) -> None:
    recipe = read_recipe(_written(tmp_path, TEXT.format(sha="b" * 64)))
    assert msgspec.convert(msgspec.to_builtins(recipe), Recipe) == recipe
