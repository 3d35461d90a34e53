"""`lorakeet resize` and `lorakeet merge` from the outside, on small files of weights."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from contract.methods.merge import Bake, CheckpointMerge, Extract, Recipe
from contract.methods.resize import ResizeSettings
from orchestrator.cli.commands import parser
from orchestrator.cli.flags import given_settings
from orchestrator.settings import decode_table
from tests.builders import adapters, checkpoints
from tests.orchestrator.cli.command import lorakeet

QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
#: Modules of the small SD1.5, and what they change in it.
MODULES = {
    QUERY: "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
    TEXT: "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
}


def _lora(path: Path, rank: int, seed: int) -> Path:
    shapes = checkpoints.sd15(vae=False)
    tensors: dict[str, torch.Tensor] = {}
    for name, key in MODULES.items():
        seed += 1
        tensors |= adapters.lora(name, tuple(shapes[key].shape), rank, alpha=rank / 2, seed=seed)
    # Modules this small are those of several families.
    return adapters.write(path, tensors, {"ss_base_model_version": "sd_v1"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two LoRAs and a checkpoint, and where the commands stand."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.chdir(folder)
    _lora(folder / "a.safetensors", 8, 1)
    _lora(folder / "b.safetensors", 4, 3)
    checkpoints.write(folder / "base.safetensors", checkpoints.sd15(vae=False))
    return folder


def _delta(path: Path, name: str = QUERY) -> torch.Tensor:
    return adapters.dense(load_file(path), name)


def _distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_a_lora_is_resized_and_the_words_say_how_well(folder: Path) -> None:
    done = lorakeet("resize", "a.safetensors", "c", "--method", "fixed", "--rank", "4", "--dtype", "fp16")
    assert (done.code, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    assert first == "c.safetensors: 2 modules, rank 8 → 4"
    assert second.startswith("  kept ") and "of the norm, error " in second
    assert " → " in third and third.endswith(" s")
    whole = torch.linalg.svdvals(_delta(folder / "a.safetensors"))
    expected = float((whole[4:].square().sum() / whole.square().sum()).sqrt())
    error = _distance(_delta(folder / "c.safetensors"), _delta(folder / "a.safetensors"))
    assert error == pytest.approx(expected, rel=1e-2)


def _started(*arguments: str) -> dict[str, Any]:
    """What a kernel would be asked for; none is there, which is cheaper."""
    done = lorakeet(*arguments, "--json", env={"LORAKEET_KERNEL": "no-such-kernel"})
    (started,) = done.of("started")
    assert done.code == 5, done.stdout
    return dict(started)


def test_every_setting_of_a_resize_is_a_flag(folder: Path) -> None:
    started = _started(
        *("resize", "a.safetensors", "c", "--method", "sv_fro", "--value", "0.9", "--rank", "6"),
        *("--conv-rank", "2", "--blocks", "IN01=3,te1=2", "--alpha", "rank", "--dtype", "bf16"),
        *("--naming", "kohya", "--convert"),
    )
    assert (started["file"], started["out"]) == (f"{folder}/a.safetensors", f"{folder}/c.safetensors")
    assert started["settings"] == {
        "method": "sv_fro", "value": 0.9, "rank": 6, "conv_rank": 2, "blocks": {"IN01": 3, "te1": 2},
        "alpha": "rank", "dtype": "bf16", "naming": "kohya", "convert": True,
        "target_size_mb": None,
    }  # fmt: skip


def test_so_are_those_of_an_extraction(folder: Path) -> None:
    started = _started(
        *("merge", "extract", "t.safetensors", "base.safetensors", "--out", "e", "--rank", "8"),
        *("--conv-rank", "4", "--min-difference", "0.01", "--iterations", "3", "--seed", "5"),
        *("--dtype", "fp32", "--naming", "peft", "--alpha", "one"),
    )
    assert started["settings"] == {
        "type": "extract", "tuned": {"path": f"{folder}/t.safetensors"},
        "base": {"path": f"{folder}/base.safetensors"}, "rank": 8, "conv_rank": 4, "min_difference": 0.01,
        "iterations": 3, "seed": 5, "dtype": "fp32", "naming": "peft", "alpha": "one",
    }  # fmt: skip


@pytest.mark.parametrize("words", [("lora", "a.safetensors"), ("nothing.toml",)])
def test_what_is_neither_a_merge_nor_a_recipe_is_told_what_there_is(
    folder: Path, words: tuple[str, ...]
) -> None:
    done = lorakeet("merge", *words, "--out", "c")
    assert done.code == 2
    assert f"there is no recipe `{words[0]}`" in done.stderr
    assert done.stderr.endswith("there are loras, checkpoints, bake, extract\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--method", "sv_fro"),
        ("--method", "sv_ratio", "--value", "0.5"),
        ("--value", "2"),
        ("--rank", "0"),
        ("--method", "svd"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_done(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    assert lorakeet("resize", "a.safetensors", "c.safetensors", *arguments).code == 2
    assert not (folder / "c.safetensors").exists()


def test_loras_are_merged_with_their_weights(folder: Path) -> None:
    done = lorakeet("merge", "loras", "a.safetensors:0.8", "b.safetensors:-0.5,te1=2", "--out", "c")
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "c.safetensors: from 2 files",
        "  2 modules of rank 12, exact",
    ]
    for name, second in ((QUERY, -0.5), (TEXT, 2.0)):
        wanted = 0.8 * _delta(folder / "a.safetensors", name) + second * _delta(
            folder / "b.safetensors", name
        )
        assert _distance(_delta(folder / "c.safetensors", name), wanted) < 1e-5


def test_a_lora_goes_into_a_checkpoint(folder: Path) -> None:
    baked = lorakeet(
        "merge", "bake", "base.safetensors", "a.safetensors:0.8", "--dtype", "fp32", "--out", "t"
    )
    assert baked.code == 0, baked.stderr
    assert "2 tensors merged" in baked.stdout
    base, made = (load_file(folder / f"{name}.safetensors")[MODULES[QUERY]] for name in ("base", "t"))
    assert _distance(made - base.float(), 0.8 * _delta(folder / "a.safetensors")) < 1e-5


def test_checkpoints_are_merged_by_the_method_that_is_named(folder: Path) -> None:
    checkpoints.write(folder / "other.safetensors", checkpoints.sd15(1, vae=False))
    done = lorakeet(
        *("merge", "checkpoints", "base.safetensors:0.75", "other.safetensors:0.25", "--out", "m"),
        *("--method", "weighted_sum", "--text-encoders", "1", "--dtype", "fp32"),
    )
    assert done.code == 0, done.stderr
    base, other, made = (load_file(folder / f"{name}.safetensors") for name in ("base", "other", "m"))
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.allclose(made[key], 0.75 * base[key].float() + 0.25 * other[key].float(), atol=1e-6)
    assert torch.equal(made[MODULES[TEXT]], base[MODULES[TEXT]].float())
    for method, says in (("ws", "is written `weighted_sum`"), ("ortho", "no published definition")):
        refused = lorakeet("merge", "checkpoints", "base.safetensors", "--out", "x", "--method", method)
        assert (refused.code, says in refused.stderr) == (2, True)


def test_the_studio_merges_what_lies_in_its_folders(folder: Path, tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    model = _lora(models / "a.safetensors", 4, 1)
    done = lorakeet("merge", "loras", f"{model}:0.5", "--out", "c", "--queue", "--json")
    assert done.code == 0, done.stdout
    job = done.of("queued")[0]["job"]
    assert (job["kind"], job["output"], job["source"]) == ("merge", "c", None)
    assert job["settings"]["loras"] == [{"model": {"path": str(model)}, "weight": 0.5}]
    outside = lorakeet("merge", "loras", "a.safetensors", "--out", "c", "--queue", "--json")
    assert outside.code == 2
    assert outside.of("error")[0]["error"]["data"]["where"] == "$.settings.loras[0].model.path"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            f"A.safetensors:0.8 B.safetensors:0.5 --out C.safetensors --method {method} {rank}--dtype fp16",
            said,
        )
        for method, rank, said in (
            ("concat", "", {}),
            ("add", "", {}),
            *((each, "--rank 32 ", {"rank": 32}) for each in ("svd", "ties", "dare")),
        )
    ],
)
def test_a_merge_of_loras_is_written_in_these_words(line: str, expected: dict[str, int]) -> None:
    given = parser().parse_args(["merge", "loras", *line.split()])
    settings = given.what.settings(given)
    assert settings.method == line.split()[5] and settings.dtype == "fp16"
    assert (settings.rank is None) is (not expected) and settings.rank == expected.get("rank")
    assert [each.weight for each in settings.loras] == [0.8, 0.5]
    assert os.path.basename(settings.loras[1].model.path) == "B.safetensors"
    assert os.path.basename(given.out) == "C.safetensors"


@pytest.mark.parametrize(
    ("method", "value"), [("fixed", None), ("sv_ratio", 2.0), ("sv_cumulative", 0.7), ("sv_fro", 0.7)]
)
def test_a_resize_is_written_in_these_words(method: str, value: float | None) -> None:
    words = f"resize IN OUT --method {method} --rank 16 --conv-rank 8 --dtype fp16".split()
    given = parser().parse_args([*words, *([] if value is None else ["--value", str(value)])])
    settings = decode_table(given_settings(given, ResizeSettings), ResizeSettings, "settings")
    assert settings == ResizeSettings(method=method, rank=16, value=value, conv_rank=8, dtype="fp16")  # type: ignore[arg-type]


def test_the_other_merges_are_written_in_these_words(folder: Path) -> None:
    def read(line: str) -> Any:
        given = parser().parse_args(line.split())
        return given.what.settings(given)

    merged = read("merge checkpoints A:0.5 B:0.5 --out C --method weighted_sum --dtype fp16")
    assert isinstance(merged, CheckpointMerge) and [each.weight for each in merged.models] == [0.5, 0.5]
    assert (merged.method, merged.dtype) == ("weighted_sum", "fp16")
    baked = read("merge bake MODEL LORA:0.8 OTHER:-1 --out C")
    assert isinstance(baked, Bake) and [each.weight for each in baked.loras] == [0.8, -1.0]
    taken = read("merge extract TUNED BASE --out C --rank 32")
    assert isinstance(taken, Extract) and taken.rank == 32
    assert [os.path.basename(each.path) for each in (taken.tuned, taken.base)] == ["TUNED", "BASE"]
    (folder / "RECIPE.toml").write_text(RECIPE, encoding="utf-8")
    assert isinstance(read("merge RECIPE.toml"), Recipe)
    looked = parser().parse_args(["inspect", "FILE", "--json"])
    assert looked.command == "inspect" and looked.json


RECIPE = """
[merge]
output = "final"
dtype = "fp16"

[models]
base = "../weights/base.safetensors"

[steps.final]
method = "bake"
inputs = ["base"]
loras = [{ model = "../weights/a.safetensors", weight = 0.8 }]
"""


def test_a_recipe_makes_the_same_bytes_again_also_from_its_output(folder: Path) -> None:
    recipes = folder.parent / "recipes"
    recipes.mkdir()
    (recipes / "mine.toml").write_text(RECIPE, encoding="utf-8")
    assert lorakeet("merge", recipes / "mine.toml").code == 0
    made = recipes / "mine.safetensors"
    assert lorakeet("merge", recipes / "mine.toml").code == 3
    assert lorakeet("merge", made, "--models", folder, "--out", "third").code == 0
    assert made.read_bytes() == (folder / "third.safetensors").read_bytes()
    assert lorakeet("merge", made, "--models", folder).code == 2
    _lora(folder / "a.safetensors", 8, 7)
    changed = lorakeet("merge", made, "--models", folder, "--out", "fourth", "--json")
    assert changed.code == 3
    assert changed.of("error")[0]["error"]["data"]["kind"] == "weights_changed"
    assert not (folder / "fourth.safetensors").exists()
