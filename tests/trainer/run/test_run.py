"""A run from pictures to a LoRA: what it makes on the way, what it is told, what it leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from contract.errors import FileUnwritable, JobCanceled, NanLoss, OutputExists
from contract.methods.training.run_record import decode_run
from tests.trainer.run import runs
from trainer import fixtures
from trainer.run.alone import alone_in

PROMPTS: dict[str, Any] = {
    "prompts": ["a cat --s 2 --w 64 --h 64", "a dog --d 7 --s 2 --w 64 --h 64"],
    "every_steps": 2,
}


def test_makes_what_the_settings_say_in_order(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path
) -> None:
    asked = runs.request(
        bases[family],
        source,
        tmp_path,
        training={"steps": 6, "accumulation": 2, "batch_size": 2},
        sampling=PROMPTS,
        saving={"every_epochs": 1, "every_steps": 4},
        checkpoints={"every_steps": 3},
        schedule={"type": "linear"},
    )
    watcher = runs.Recorder()
    outcome = runs.go(asked, watcher)
    # 8 pictures with their repeats in two buckets: 2 + 2 batches, so 2 steps an epoch.
    made = [(each.role, Path(each.path).name, dict(each.labels)) for each in watcher.files]
    files = [each for each in made if each[0] != "sample"]
    assert files == [
        ("lora_step", "cat-000001.safetensors", {"step": 2, "epoch": 1}),
        ("checkpoint", "manifest.json", {"step": 3, "epoch": 1}),
        ("lora_step", "cat-step00000004.safetensors", {"step": 4, "epoch": 2}),
        ("lora_step", "cat-000002.safetensors", {"step": 4, "epoch": 2}),
        ("checkpoint", "manifest.json", {"step": 6, "epoch": 3}),
        ("lora", "cat.safetensors", {"step": 6, "epoch": 3}),
    ]
    samples = [labels for role, _, labels in made if role == "sample"]
    assert samples == [{"step": step, "prompt_index": index} for step in (0, 2, 4, 6) for index in (0, 1)]
    assert [item.step for item in watcher.items] == [1, 2, 3, 4, 5, 6]
    assert [item.epoch for item in watcher.items] == [1, 1, 2, 2, 3, 3]
    assert watcher.items[0].rates == {"unet": 1e-4}
    assert watcher.items[3].rates == {"unet": pytest.approx(0.5e-4)}
    assert [Path(each.file).name for each in outcome.saved] == [
        "cat-000001.safetensors",
        "cat-step00000004.safetensors",
        "cat-000002.safetensors",
    ]
    assert (outcome.steps, outcome.epochs, outcome.samples) == (6, 3, 8)
    assert outcome.sha256 == runs.sha256(asked.output)
    lines = (tmp_path / "run/metrics.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert decode_run((tmp_path / "run/run.json").read_bytes()).finished


def test_samples_and_files_on_the_way_change_nothing_of_the_result(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path
) -> None:
    tables: dict[str, Any] = {"training": {"steps": 4}, "optimizer": {"type": "radam_schedule_free"}}
    tables["schedule"] = {"type": "constant"}
    plain = runs.request(bases[family], source, tmp_path / "plain", **tables)
    runs.go(plain)
    busy = runs.request(
        bases[family],
        source,
        tmp_path / "busy",
        **tables,
        sampling=PROMPTS,
        saving={"every_steps": 1},
        checkpoints={"every_steps": 1},
    )
    runs.go(busy)
    assert runs.content(plain.output)[1] == runs.content(busy.output)[1]


def test_orders_are_carried_out_after_the_step(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(
        bases["sd15"], source, tmp_path, sampling={**PROMPTS, "every_steps": 99}, training={"steps": 20}
    )
    watcher = runs.Recorder()
    watcher.given = ["save_now", "sample_now", "stop_after_epoch"]
    outcome = runs.go(asked, watcher)
    roles = [(each.role, each.labels["step"]) for each in watcher.files if each.role != "sample"]
    assert roles == [("lora_step", 1), ("checkpoint", 1), ("checkpoint", 8), ("lora", 8)]
    assert [each.labels["step"] for each in watcher.files if each.role == "sample"] == [0, 0, 1, 1]
    assert outcome.stopped_early
    assert outcome.steps == 8


def test_a_canceled_run_makes_the_samples_that_were_due_when_it_goes_on(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, sampling=PROMPTS)
    first = runs.Recorder()
    # At the second sample after step 2.
    first.stops_when = lambda: sum(each.role == "sample" for each in first.files) == 3
    with pytest.raises(JobCanceled):
        runs.go(asked, first)
    second = runs.Recorder()
    outcome = runs.go(asked, second)
    samples = [dict(each.labels) for each in second.files if each.role == "sample"]
    assert samples == [{"step": 2, "prompt_index": 0}, {"step": 2, "prompt_index": 1}]
    assert outcome.steps == 3


def test_keeps_only_the_last_files_on_the_way(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, saving={"every_steps": 1, "keep_last": 1})
    outcome = runs.go(asked)
    assert sorted(each.name for each in tmp_path.glob("*.safetensors")) == [
        "cat-step00000002.safetensors",
        "cat.safetensors",
    ]
    assert [each.step for each in outcome.saved] == [2]


@pytest.mark.parametrize("name", ["cat.safetensors", "cat-step00000002.safetensors"])
def test_writes_over_nobodys_file(bases: Mapping[str, Path], source: Path, tmp_path: Path, name: str) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, saving={"every_steps": 1})
    (tmp_path / name).write_bytes(b"mine")
    watcher = runs.Recorder()
    with pytest.raises(OutputExists, match=name):
        runs.go(asked, watcher)
    assert not watcher.items
    assert (tmp_path / name).read_bytes() == b"mine"


def test_its_own_files_are_written_again(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    """As after a crash between the LoRA and the end of the job."""
    asked = runs.request(bases["sd15"], source, tmp_path)
    runs.go(asked)
    first = runs.content(asked.output)
    Path(asked.output).write_bytes(b"half of it")
    runs.go(asked)
    assert runs.content(asked.output) == first


def test_a_bad_picture_is_named_or_left_out(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    (source / "2_cat/7.png").write_bytes((source / "2_cat/0.png").read_bytes()[:-200])
    (source / "2_cat/7.txt").write_text("half a cat")
    asked = runs.request(bases["sd15"], source, tmp_path, data={"bad_images": "skip"})
    outcome = runs.go(asked)
    assert outcome.failed_count == 1
    assert outcome.failed[0].image.endswith("7.png")


def test_a_loss_that_is_no_number_ends_the_run_with_the_pictures_and_the_last_good_checkpoint(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    asked = runs.request(
        bases["sd15"],
        source,
        tmp_path,
        optimizer={"type": "custom", "import_name": "torch.optim.SGD", "learning_rate": 1000.0},
        network={"alpha": 65536.0},
        schedule={"type": "constant"},
        training={"steps": 9, "max_grad_norm": 0.0},
        checkpoints={"every_steps": 1, "every_minutes": 0},
    )
    with pytest.raises(NanLoss) as ended:
        runs.go(asked)
    details = ended.value.details
    assert details["step"] > 1
    # A batch of one.
    (image,) = details["images"]
    assert Path(image).parent == source / "2_cat"
    assert image in str(ended.value.message)
    assert Path(details["checkpoint"]).is_dir()


def test_two_processes_do_not_share_a_run(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path)
    with alone_in(asked.folder), pytest.raises(FileUnwritable, match="Another process"):
        runs.go(asked)


def test_warm_caches_need_no_encoder(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path
) -> None:
    asked = runs.request(bases[family], source, tmp_path)
    runs.go(asked)
    first = runs.content(asked.output)
    watcher = runs.Recorder()
    runs.go(runs.again(asked), watcher)
    assert "latents" not in watcher.phases
    assert "text" not in watcher.phases
    assert runs.content(asked.output) == first


def test_pictures_of_many_sizes_are_trained(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 40), "red").save(source / "2_cat/wide.png")
    (source / "2_cat/wide.txt").write_text("a red bar")
    outcome = runs.go(runs.request(bases["sd15"], source, tmp_path, training={"steps": None, "epochs": 1}))
    assert outcome.epochs == 1
    assert outcome.steps == 10
    assert outcome.plan is not None
    assert (outcome.plan.pictures, outcome.plan.samples, outcome.plan.total_steps) == (5, 10, 10)


def test_a_plan_trains_and_writes_nothing(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    asked = runs.request(bases["sd15"], source, tmp_path, training={"steps": 7, "accumulation": 2})
    outcome = runs.go(msgspec.structs.replace(asked, plan_only=True))
    assert outcome.plan is not None
    sizes = [(each.width, each.height, each.pictures) for each in outcome.plan.buckets]
    assert sizes == [(64, 64, 4)] or sum(count for *_, count in sizes) == 4
    assert (outcome.plan.steps, outcome.plan.total_steps, outcome.steps) == (4, 7, 0)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_early_says_how_to_get_it_again(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    watcher = runs.Recorder()
    watcher.given = ["stop_after_epoch"]
    stopped = runs.request(bases["sd15"], source, tmp_path / "stopped", training={"steps": 40})
    runs.go(stopped, watcher)
    again = runs.request(bases["sd15"], source, tmp_path / "again", training={"steps": 40, "stop_after": 1})
    outcome = runs.go(again)
    assert outcome.stopped_early
    assert runs.content(stopped.output) == runs.content(again.output)


def test_a_checkpoint_is_written_when_its_minutes_are_over(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    watcher = runs.Recorder()
    runs.go(runs.request(bases["sd15"], source, tmp_path, checkpoints={"every_minutes": 1e-9}), watcher)
    assert [each.labels["step"] for each in watcher.files if each.role == "checkpoint"] == [1, 2, 3]


def test_samples_are_of_the_weights_that_are_saved(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    """A schedule-free optimizer has others to train on."""
    sampling = {"prompts": ["a cat --s 3 --w 64 --h 64"], "every_steps": 4}
    tables: dict[str, Any] = {
        "optimizer": {"type": "adamw_schedule_free", "learning_rate": 0.05},
        "schedule": {"type": "constant"},
        "sampling": sampling,
    }
    asked = runs.request(bases["sd15"], source, tmp_path / "first", training={"steps": 4}, **tables)
    runs.go(asked)
    started = runs.request(
        bases["sd15"],
        source,
        tmp_path / "second",
        training={"steps": 1},
        network={"start_from": {"path": asked.output}},
        sampling=sampling,
    )
    runs.go(started)
    before, after, loaded = (
        numpy.asarray(Image.open(tmp_path / each), dtype=int)
        for each in (
            "first/run/samples/step-00000000-prompt-000.png",
            "first/run/samples/step-00000004-prompt-000.png",
            "second/run/samples/step-00000000-prompt-000.png",
        )
    )
    assert abs(after - before).max() > 8
    assert abs(after - loaded).max() <= 1


def test_a_folder_of_diffusers_gives_what_its_single_file_gives(
    family: str, source: Path, tmp_path: Path
) -> None:
    made = fixtures.write(family, tmp_path / "model", dtype="fp32")
    contents: list[bytes] = []
    for base in (made.folder, made.file):
        asked = runs.request(Path(base), source, tmp_path / str(len(contents)), training={"steps": 2})
        runs.go(asked)
        contents.append(runs.content(asked.output)[1])
    assert contents[0] == contents[1]


def test_a_vae_of_its_own_takes_the_place_of_the_models(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    beginning = "first_stage_model."
    other = {
        key.removeprefix(beginning): tensor * 0.9
        for key, tensor in load_file(bases["sd15"]).items()
        if key.startswith(beginning)
    }
    save_file(other, tmp_path / "other.safetensors")
    plain = runs.request(bases["sd15"], source, tmp_path / "plain", training={"steps": 1})
    own = runs.request(bases["sd15"], source, tmp_path / "own", training={"steps": 1})
    runs.go(plain)
    runs.go(msgspec.structs.replace(own, vae=str(tmp_path / "other.safetensors")))
    said, tensors = runs.content(own.output)
    assert tensors != runs.content(plain.output)[1]
    assert said["ss_vae_name"] == "other.safetensors"
