"""A run that was stopped anywhere and taken up again is one that never stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from contract.errors import InvalidParams, JobCanceled
from contract.methods.train import TrainOutcome
from tests.trainer.run import runs
from trainer.run.request import Request
from trainer.run.watcher import Wish

#: Everything that chance has a part in.
CHANCES: dict[str, Any] = {
    "training": {"steps": 5, "accumulation": 3, "batch_size": 1},
    "data": {
        "random_crop": True,
        "flip": True,
        "captions": {"shuffle": True, "tag_dropout": 0.3, "caption_dropout": 0.2, "keep_tokens": 1},
    },
    "network": {"dropout": 0.2, "rank_dropout": 0.1},
    "optimizer": {"type": "adamw", "text_encoder_rate": 1e-3, "learning_rate": 1e-2},
    "schedule": {"type": "cosine", "warmup_steps": 1},
}


def stopped(asked: Request, stop_at: int, wish: Wish = "graceful") -> TrainOutcome:
    """What there was when it was canceled before batch `stop_at` of its attempt."""
    with pytest.raises(JobCanceled) as canceled:
        runs.go(asked, runs.Recorder(stop_at, wish))
    partial: TrainOutcome = canceled.value.partial
    return partial


def test_a_run_stopped_between_any_two_batches_ends_in_the_same_file(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path
) -> None:
    whole = runs.request(bases[family], source, tmp_path / "whole", **CHANCES)
    never = runs.go(whole)
    other = runs.request(bases[family], source, tmp_path / "other", **CHANCES)
    # 8 batches an epoch, so steps of 3, 3, 2, 3 and 3.
    for batches in (1, 4, 5, 2):
        stopped(other, batches)
    outcome = runs.go(other)
    assert outcome.steps == never.steps == 5
    assert outcome.loss == never.loss
    assert runs.content(tmp_path / "whole/cat.safetensors") == runs.content(
        tmp_path / "other/cat.safetensors"
    )


# SDXL is trained twice by test_repeats.
@pytest.mark.parametrize("name", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_two_runs_of_one_recipe_are_the_same(
    bases: Mapping[str, Path], name: str, source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases[name], source, tmp_path, **CHANCES)
    runs.go(asked)
    first = runs.content(asked.output)
    runs.go(runs.again(asked))
    assert runs.content(asked.output) == first


def test_a_checkpoint_amid_the_gradients_of_a_step_has_them(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, **CHANCES)
    partial = stopped(asked, 5)
    assert partial.checkpoint is not None
    manifest = msgspec.json.decode((Path(partial.checkpoint) / "manifest.json").read_bytes())
    assert manifest["position"] == {"step": 1, "epoch": 0, "batch": 5, "window": 2}


def test_canceled_now_writes_no_checkpoint(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, **CHANCES)
    partial = stopped(asked, 4, "now")
    assert partial.checkpoint is None
    assert not (tmp_path / "run/checkpoints").exists()


def test_goes_on_with_a_longer_schedule(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    """The rates are those of a run of that length from there on."""
    asked = runs.request(bases["sd15"], source, tmp_path, training={"steps": 2})
    assert runs.go(asked).steps == 2
    longer = runs.request(bases["sd15"], source, tmp_path, training={"steps": 4})
    watcher = runs.Recorder()
    outcome = runs.go(longer, watcher)
    assert outcome.steps == 4
    assert [item.step for item in watcher.items] == [3, 4]
    # Half a cosine over four steps.
    assert [item.rates["unet"] for item in watcher.items] == pytest.approx([0.5e-4, 0.1464466e-4])


def test_other_settings_are_refused_by_name(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    runs.go(runs.request(bases["sd15"], source, tmp_path, training={"steps": 1}))
    other = runs.request(bases["sd15"], source, tmp_path, training={"steps": 2}, network={"rank": 8})
    with pytest.raises(InvalidParams) as refused:
        runs.go(other)
    assert refused.value.where == "$.params.settings.network.rank"


def test_goes_on_from_the_checkpoint_of_another_run(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    tables: dict[str, Any] = {"checkpoints": {"every_steps": 1, "every_minutes": 0, "keep_last": 9}}
    first = runs.request(bases["sd15"], source, tmp_path / "first", **tables)
    runs.go(first)
    one, *_ = sorted((tmp_path / "first/run/checkpoints").iterdir())
    branch = runs.request(bases["sd15"], source, tmp_path / "branch", **tables)
    watcher = runs.Recorder()
    runs.go(msgspec.structs.replace(branch, checkpoint=str(one)), watcher)
    assert [item.step for item in watcher.items] == [2, 3]
    _, tensors = runs.content(first.output)
    assert runs.content(branch.output)[1] == tensors


def test_refuses_the_checkpoint_of_a_run_with_other_pictures(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    first = runs.request(bases["sd15"], source, tmp_path / "first", training={"steps": 1})
    outcome = runs.go(first)
    others = runs.pictures(tmp_path / "others", count=3)
    branch = runs.request(bases["sd15"], others, tmp_path / "branch", training={"steps": 2})
    with pytest.raises(InvalidParams, match="other pictures"):
        runs.go(msgspec.structs.replace(branch, checkpoint=outcome.checkpoint))


def test_what_becomes_of_captions_later_changes_nothing(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, **CHANCES)
    runs.go(asked)
    first = runs.content(asked.output)
    stopped(runs.again(asked), 5)
    (source / "2_cat/0.txt").write_text("something else")
    (source / "2_cat/9.txt").write_text("of no picture")
    runs.go(msgspec.structs.replace(asked, overwrite=True))
    assert runs.content(asked.output) == first


def test_an_order_to_stop_after_the_epoch_outlives_the_attempt(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, training={"steps": 20})
    first = runs.Recorder(2, "now")
    first.given = ["stop_after_epoch"]
    with pytest.raises(JobCanceled):
        runs.go(asked, first)
    outcome = runs.go(asked)
    assert (outcome.steps, outcome.stopped_early) == (8, True)
    # Whoever goes on with what has ended does not want that end again.
    assert runs.go(asked).steps == 20


def test_orders_are_carried_out_once_and_after_the_step_though_the_attempt_ends_before(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, training={"steps": 3, "accumulation": 4})
    first = runs.Recorder(0)
    first.given = ["save_now", "save_now"]
    with pytest.raises(JobCanceled):
        runs.go(asked, first)
    second = runs.Recorder()
    runs.go(asked, second)
    assert [each.labels["step"] for each in second.files if each.role == "lora_step"] == [1]


def test_a_checkpoint_beyond_the_end_is_refused_by_field(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    runs.go(runs.request(bases["sd15"], source, tmp_path))
    with pytest.raises(InvalidParams, match="has 2 steps") as refused:
        runs.go(runs.request(bases["sd15"], source, tmp_path, training={"steps": 2}))
    assert refused.value.where == "$.params.settings.training.steps"


def test_a_model_that_was_changed_in_its_place_is_refused(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(bases["sd15"].read_bytes())
    runs.go(runs.request(model, source, tmp_path))
    tensors = load_file(model)
    tensors["model.diffusion_model.input_blocks.0.0.weight"] *= 1.5
    save_file(tensors, model)
    with pytest.raises(InvalidParams, match="another model"):
        runs.go(runs.request(model, source, tmp_path, training={"steps": 4}))


@pytest.mark.parametrize(
    ("family", "compute"),
    [
        ("sd15", "bf16"),
        ("sd15", "fp16"),
        pytest.param("sdxl", "fp16", marks=pytest.mark.slow),
        pytest.param("sdxl", "bf16", marks=pytest.mark.slow),
    ],
)
def test_so_it_is_in_half_precision(
    family: str, compute: str, bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    tables = {**CHANCES, "precision": {"compute": compute}}
    whole = runs.request(bases[family], source, tmp_path / "whole", **tables)
    runs.go(whole)
    other = runs.request(bases[family], source, tmp_path / "other", **tables)
    stopped(other, 4)
    runs.go(other)
    assert runs.content(whole.output) == runs.content(other.output)
