"""Recipes: graphs of merges, checked by hashes, and made again from what they leave in their output."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open

from contract.errors import InvalidParams, WeightsChanged, WeightsMismatch, WeightsNotFinite
from contract.methods.merge import MAX_STEPS, MergeOutcome, Recipe, RecipeStep, WeightedLora
from contract.methods.weights import WeightsFile
from kernel.engines.streams.run import run_recipe
from tests.builders import adapters
from tests.builders.checkpoints import bare_vae, sd15, sdxl, write
from tests.kernel.engines.streams.running import Tensors, file, run

KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
VAE = "first_stage_model.decoder.conv_out.weight"


@pytest.fixture
def models(tmp_path: Path) -> list[Tensors]:
    """a, b and c.safetensors."""
    tensors = [sd15(seed, channels=(32, 32), dtype=torch.float32) for seed in range(3)]
    for name, each in zip("abc", tensors, strict=True):
        write(tmp_path / f"{name}.safetensors", each)
    return tensors


def _recipe(folder: Path, steps: dict[str, RecipeStep], output: str = "end", **settings: Any) -> Recipe:
    files = {name: file(folder, name) for name in settings.pop("files", "abc")}
    return Recipe(models=files, steps=steps, output=output, **settings)


def _run(folder: Path, recipe: Recipe, output: str = "out") -> tuple[MergeOutcome, Tensors]:
    return run(run_recipe, recipe, folder, output)


def test_steps_are_put_together_and_used_more_than_once(tmp_path: Path, models: list[Tensors]) -> None:
    steps = {
        "end": RecipeStep(method="weighted_sum", inputs=["tuned", "arc", "tuned"], weights=[0.5, 0.25, 0.25]),
        "tuned": RecipeStep(method="add_difference", inputs=["a", "b", "c"], alpha=0.7),
        "arc": RecipeStep(method="slerp", inputs=["tuned", "b"], alpha=0.3),
    }
    outcome, out = _run(tmp_path, _recipe(tmp_path, steps))
    a, b, c = (each[KEY].double() for each in models)
    tuned = a + 0.7 * (b - c)
    angle = torch.acos((tuned * b).sum() / tuned.norm() / b.norm())
    arc = (torch.sin(0.7 * angle) * tuned + torch.sin(0.3 * angle) * b) / torch.sin(angle)
    torch.testing.assert_close(out[KEY].double(), 0.75 * tuned + 0.25 * arc, rtol=1e-5, atol=1e-6)
    assert outcome.warnings == [] and outcome.merged == len(models[0]) - 2


def test_a_sum_without_weights_is_the_mean(tmp_path: Path, models: list[Tensors]) -> None:
    steps = {"end": RecipeStep(method="weighted_sum", inputs=["a", "b", "c"])}
    outcome, out = _run(tmp_path, _recipe(tmp_path, steps))
    wanted = sum(each[KEY].double() for each in models) / 3
    torch.testing.assert_close(out[KEY].double(), wanted, rtol=1e-5, atol=1e-6)
    assert outcome.warnings == []


def test_all_inputs_are_hashed_and_checked(tmp_path: Path, models: list[Tensors]) -> None:
    steps = {"end": RecipeStep(method="max", inputs=["a", "b"])}
    outcome, _ = _run(tmp_path, _recipe(tmp_path, steps))
    found = {Path(each.file).stem: each.sha256 for each in outcome.inputs}
    hashes = {x: hashlib.sha256((tmp_path / f"{x}.safetensors").read_bytes()).hexdigest() for x in "abc"}
    assert found == hashes
    wrong = WeightsFile(path=str(tmp_path / "b.safetensors"), sha256=hashes["a"])
    recipe = msgspec.structs.replace(_recipe(tmp_path, steps), models={"a": file(tmp_path, "a"), "b": wrong})
    with pytest.raises(WeightsChanged) as refused:
        _run(tmp_path, recipe, "no")
    assert refused.value.where == str(tmp_path / "b.safetensors")


def _embedded(path: Path, folder: Path) -> Recipe:
    """The recipe in a file, its files looked for in a folder."""
    with safe_open(path, "pt") as stream:
        text = stream.metadata()["lorakeet_recipe"]

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {key: str(folder / each) if key == "path" else placed(each) for key, each in value.items()}

    return msgspec.convert(placed(json.loads(text)), Recipe)


def test_a_recipe_run_again_and_from_its_output_writes_the_same_bytes(
    tmp_path: Path, models: list[Tensors]
) -> None:
    lora = adapters.lora(MODULE, (32, 32), 4)
    adapters.write(tmp_path / "lora.safetensors", lora)
    write(tmp_path / "vae.safetensors", bare_vae(sd15(9)))
    weighted = WeightedLora(model=file(tmp_path, "lora"), weight=0.5)
    steps = {
        "baked": RecipeStep(method="bake", inputs=["a"], loras=[weighted]),
        "dropped": RecipeStep(method="dare", inputs=["baked", "b"], density=0.3),
        "end": RecipeStep(method="della", inputs=["dropped", "c"], alpha_blocks=None),
    }
    recipe = _recipe(tmp_path, steps, seed=7, dtype="fp16", vae_file=file(tmp_path, "vae"))
    first, out = _run(tmp_path, recipe, "first")
    second, _ = _run(tmp_path, recipe, "second")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a", "b", "c", "lora", "vae"):
        (tmp_path / f"{name}.safetensors").rename(moved / f"{name}.safetensors")
    third, _ = run(run_recipe, _embedded(tmp_path / "first.safetensors", moved), tmp_path, "third")
    assert first.sha256 == second.sha256 == third.sha256
    assert len(first.inputs) == 5 and all(each.sha256 for each in first.inputs)
    assert out[KEY].dtype == torch.float16


def test_two_steps_that_draw_do_not_draw_the_same(tmp_path: Path, models: list[Tensors]) -> None:
    steps = {
        "one": RecipeStep(method="dare", inputs=["a", "b"], density=0.5),
        "two": RecipeStep(method="dare", inputs=["a", "b"], density=0.5),
        "end": RecipeStep(method="add_difference", inputs=["one", "two", "a"], alpha=1),
    }
    _, out = _run(tmp_path, _recipe(tmp_path, steps))
    learned = (out[KEY] - models[0][KEY]) / (models[1][KEY] - models[0][KEY])
    assert {0, 2, 4} == {round(each) for each in learned.flatten().tolist()}


def test_a_lora_is_baked_into_what_a_step_made(tmp_path: Path, models: list[Tensors]) -> None:
    lora = adapters.lora(MODULE, (32, 32), 4, alpha=2)
    adapters.write(tmp_path / "lora.safetensors", lora)
    steps = {
        "sum": RecipeStep(method="weighted_sum", inputs=["a", "b"], weights=[0.5, 0.5]),
        "end": RecipeStep(
            method="bake", inputs=["sum"], loras=[WeightedLora(model=file(tmp_path, "lora"), weight=-0.5)]
        ),
    }
    _, out = _run(tmp_path, _recipe(tmp_path, steps, files="ab"))
    mean = (models[0][KEY].double() + models[1][KEY].double()) / 2
    wanted = mean - 0.5 * adapters.dense(lora, MODULE)
    torch.testing.assert_close(out[KEY].double(), wanted, rtol=1e-5, atol=1e-6)


def test_what_the_output_does_not_need_is_said(tmp_path: Path, models: list[Tensors]) -> None:
    steps = {
        "end": RecipeStep(method="max", inputs=["a", "b"]),
        "spare": RecipeStep(method="max", inputs=["a", "c"]),
    }
    outcome, _ = _run(tmp_path, _recipe(tmp_path, steps))
    assert outcome.warnings == ["The output does not need `c`, `spare`."]


def test_the_output_may_be_a_model(tmp_path: Path, models: list[Tensors]) -> None:
    write(tmp_path / "vae.safetensors", bare_vae(sd15(9, dtype=torch.float32)))
    steps = {"end": RecipeStep(method="max", inputs=["a", "b"])}
    recipe = _recipe(tmp_path, steps, output="b", vae_file=file(tmp_path, "vae"))
    outcome, out = _run(tmp_path, recipe)
    assert torch.equal(out[KEY], models[1][KEY]) and not torch.equal(out[VAE], models[1][VAE])
    assert outcome.merged == 0


def test_problems_are_said_with_their_place(tmp_path: Path, models: list[Tensors]) -> None:
    steps = {"end": RecipeStep(method="slerp", inputs=["a", "b"], alpha_blocks=[1.0])}
    with pytest.raises(InvalidParams) as refused:
        _run(tmp_path, _recipe(tmp_path, steps))
    assert refused.value.where == '$.params.settings.steps["end"].alpha_blocks'
    write(tmp_path / "c.safetensors", sdxl(1))
    with pytest.raises(WeightsMismatch):
        _run(tmp_path, _recipe(tmp_path, {"end": RecipeStep(method="max", inputs=["a", "b"])}))


def test_steps_that_use_each_other_many_times_are_computed_once(
    tmp_path: Path, models: list[Tensors]
) -> None:
    """Seen as a tree, the chain has 2 to the power of 127 places that look at the first of its steps."""
    steps = {"s0": RecipeStep(method="slerp", inputs=["a", "b"])}
    _, wanted = _run(tmp_path, _recipe(tmp_path, steps, "s0"), "first")
    steps |= {
        f"s{number}": RecipeStep(method="weighted_sum", inputs=[f"s{number - 1}"] * 2)
        for number in range(1, MAX_STEPS)
    }
    _, out = _run(tmp_path, _recipe(tmp_path, steps, f"s{MAX_STEPS - 1}"))
    assert all(torch.equal(out[name], each) for name, each in wanted.items())


def test_a_recipe_has_so_many_steps_at_most(tmp_path: Path) -> None:
    steps = {f"s{number}": RecipeStep(method="max", inputs=["a", "b"]) for number in range(MAX_STEPS + 1)}
    document = msgspec.to_builtins(_recipe(tmp_path, steps, "s1"))
    with pytest.raises(msgspec.ValidationError, match="steps"):
        msgspec.convert(document, Recipe)
    del document["steps"]["s0"]
    assert len(msgspec.convert(document, Recipe).steps) == MAX_STEPS


def test_numbers_that_grow_too_large_between_two_steps_are_named(
    tmp_path: Path, models: list[Tensors]
) -> None:
    write(tmp_path / "a.safetensors", models[0] | {KEY: models[0][KEY] * 1e37})
    steps = {
        "one": RecipeStep(method="smooth_add", inputs=["a", "b", "b"]),
        "two": RecipeStep(method="weighted_sum", inputs=["one", "one"], weights=[500.0, 500.0]),
        "end": RecipeStep(method="smooth_add", inputs=["two", "b", "c"]),
    }
    with pytest.raises(WeightsNotFinite, match="grow too large") as refused:
        _run(tmp_path, _recipe(tmp_path, steps))
    assert refused.value.where == str(tmp_path / "a.safetensors")
