"""What cannot be trained: refused with its name, before the first step, and nothing is left in its place."""

import errno
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.errors import (
    FileMissing,
    FileUnreadable,
    FileUnwritable,
    ImageEmpty,
    ImageInvalid,
    ImageTooLarge,
    ImageTruncated,
    InvalidParams,
    LorakeetError,
    ManifestInvalid,
    NoImages,
    OutOfMemory,
    WeightsDamaged,
    WeightsFormat,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnknown,
)
from contract.methods.job import ManifestItem
from tests.trainer.run import runs
from trainer.families.sd15 import Sd15Model
from trainer.networks import injection
from trainer.objective.objective import Objective
from trainer.run.request import Request

SETTINGS = "$.params.settings"


@pytest.fixture
def model(bases: Mapping[str, Path]) -> Path:
    return bases["sd15"]


def refused(asked: Request, kind: type[LorakeetError], where: str | Path | None) -> LorakeetError:
    """Train, and be refused before the first step, at that place and with nothing made."""
    watcher = runs.Recorder()
    with pytest.raises(kind) as caught:
        runs.go(asked, watcher)
    error = caught.value
    assert type(error) is kind
    assert error.where == (None if where is None else str(where))
    assert (watcher.items, watcher.files) == ([], [])
    assert not Path(asked.output).exists()
    return error


# Files that are not there.


@pytest.mark.parametrize("field", ["model", "vae", "start_from", "prompts"])
def test_a_file_that_is_not_there(model: Path, source: Path, tmp_path: Path, field: str) -> None:
    missing = tmp_path / ("none.txt" if field == "prompts" else "none.safetensors")
    sampling = {"file": str(missing), "every_steps": 1} if field == "prompts" else {}
    asked = runs.request(model, source, tmp_path / "run", sampling=sampling)
    refused(msgspec.structs.replace(asked, **{field: str(missing)}), FileMissing, missing)


def test_a_folder_of_pictures_that_is_not_there(model: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    refused(runs.request(model, nowhere, tmp_path / "run"), FileMissing, nowhere)


def test_a_file_in_place_of_a_folder_of_pictures(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"")
    refused(runs.request(model, file, tmp_path / "run"), FileUnreadable, file)


def test_a_folder_for_the_result_that_is_not_there(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run")
    asked = msgspec.structs.replace(asked, output=str(tmp_path / "nowhere" / "a.safetensors"))
    refused(asked, FileMissing, "$.params.outputs.file")


def test_a_file_in_place_of_the_folder_of_the_run(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run")
    Path(asked.folder).write_bytes(b"")
    refused(asked, FileUnwritable, asked.folder)


def test_a_folder_that_is_no_checkpoint(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run")
    other, empty = tmp_path / "other", tmp_path / "00001-step-00000004"
    for folder in (other, empty):
        folder.mkdir()
    refused(msgspec.structs.replace(asked, checkpoint=str(other)), FileMissing, tmp_path)
    asked = msgspec.structs.replace(asked, checkpoint=str(empty))
    refused(asked, WeightsDamaged, empty / "manifest.json")


def test_an_optimizer_that_is_not_installed(model: Path, source: Path, tmp_path: Path) -> None:
    optimizer = {"type": "custom", "import_name": "no_such_package.Best"}
    asked = runs.request(model, source, tmp_path / "run", optimizer=optimizer)
    watcher = runs.Recorder()
    with pytest.raises(LorakeetError, match="no_such_package") as caught:
        runs.go(asked, watcher)
    assert caught.value.where == f"{SETTINGS}.optimizer.import_name"
    assert watcher.items == []


# Folders with too little in them.


def test_a_folder_without_pictures(model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("nothing")
    refused(runs.request(model, empty, tmp_path / "run"), NoImages, empty)


def test_a_subset_that_is_named_and_has_no_pictures(model: Path, source: Path, tmp_path: Path) -> None:
    (source / "3_dog").mkdir()
    asked = runs.request(model, source, tmp_path / "run", subsets=[{"name": "3_dog"}])
    refused(asked, NoImages, source / "3_dog")


def test_a_subset_that_is_named_and_not_there(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run", subsets=[{"name": "2_cat"}, {"name": "3_dog"}])
    error = refused(asked, FileMissing, f"{SETTINGS}.subsets[1].name")
    assert "`3_dog`" in error.message


def test_a_manifest_without_a_subset_that_is_named(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run", subsets=[{"name": "3_dog"}])
    items = [ManifestItem(path=str(source / "2_cat/0.png"), caption="a cat", subset="2_cat")]
    asked = msgspec.structs.replace(asked, folders=None, items=items)
    refused(asked, FileMissing, f"{SETTINGS}.subsets[0].name")


def test_a_picture_without_a_caption(model: Path, source: Path, tmp_path: Path) -> None:
    folder = source / "2_cat"
    folder.rename(source / "cats")
    (source / "cats/1.txt").unlink()
    error = refused(runs.request(model, source, tmp_path / "run"), FileMissing, source / "cats/1.png")
    assert error.hint


def test_captions_that_are_no_list(model: Path, source: Path, tmp_path: Path) -> None:
    for caption in (source / "2_cat").glob("*.txt"):
        caption.unlink()
    (source / "2_cat/metadata.jsonl").write_text('{"file_name": 5}\n')
    with pytest.raises(ManifestInvalid, match=r"metadata\.jsonl"):
        runs.go(runs.request(model, source, tmp_path / "run"))


# Pictures that are none.

Spoil = Callable[[Path], object]

BROKEN: list[tuple[type[LorakeetError], Spoil]] = [
    (ImageEmpty, lambda path: path.write_bytes(b"")),
    (ImageInvalid, lambda path: path.write_bytes(b"<!DOCTYPE html><title>404</title>")),
    (ImageTruncated, lambda path: path.write_bytes(path.read_bytes()[:2000])),
    (ImageTooLarge, lambda path: path.write_bytes(_huge(path.read_bytes()))),
]


def _huge(png: bytes) -> bytes:
    """The same, but said to be of 30,000 × 30,000 pixels."""
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@pytest.mark.parametrize(("kind", "spoil"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
@pytest.mark.parametrize("latents", ["auto", "off"])
def test_a_broken_picture(
    model: Path, source: Path, tmp_path: Path, kind: type[LorakeetError], spoil: Spoil, latents: str
) -> None:
    spoil(source / "2_cat/1.png")
    asked = runs.request(model, source, tmp_path / "run", caching={"latents": latents})
    refused(asked, kind, source / "2_cat/1.png")


@pytest.mark.parametrize(("kind", "spoil"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
@pytest.mark.parametrize("latents", ["auto", "off"])
def test_a_broken_picture_that_may_be_left_out(
    model: Path, source: Path, tmp_path: Path, kind: type[LorakeetError], spoil: Spoil, latents: str
) -> None:
    spoil(source / "2_cat/1.png")
    chosen = {"data": {"bad_images": "skip"}, "caching": {"latents": latents}, "training": {"steps": 1}}
    outcome = runs.go(runs.request(model, source, tmp_path / "run", **chosen))
    assert [(each.image, each.error.data.kind) for each in outcome.failed] == [
        (str(source / "2_cat/1.png"), kind.kind)
    ]
    assert (outcome.failed_count, outcome.steps) == (1, 1)


@pytest.mark.parametrize("latents", ["auto", "off"])
def test_nothing_but_broken_pictures(model: Path, tmp_path: Path, latents: str) -> None:
    source = runs.pictures(tmp_path / "source", count=2)
    for picture in (source / "2_cat").glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:2000])
    chosen = {"data": {"bad_images": "skip"}, "caching": {"latents": latents}}
    watcher = runs.Recorder()
    with pytest.raises(NoImages):
        runs.go(runs.request(model, source, tmp_path / "run", **chosen), watcher)
    assert watcher.items == []


def test_whoever_mends_a_picture_can_go_on_in_the_same_folder(
    model: Path, source: Path, tmp_path: Path
) -> None:
    picture = source / "2_cat/1.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:2000])
    asked = runs.request(model, source, tmp_path / "run", training={"steps": 1})
    refused(asked, ImageTruncated, picture)
    picture.write_bytes(whole)
    assert runs.go(asked).steps == 1


# Models that are none, or others.


def _write(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: str) -> Path:
    save_file({key: each.contiguous() for key, each in tensors.items()}, path, metadata=metadata or None)
    return path


def _lora(path: Path, width: int, key: str, rank: int = 4, value: float = 0.0) -> Path:
    """Of one module, with as many columns as what it belongs to has."""
    tensors = {
        f"{key}.lora_down.weight": torch.zeros(rank, width),
        f"{key}.lora_up.weight": torch.full((width, rank), value),
        f"{key}.alpha": torch.tensor(float(rank)),
    }
    return _write(path, tensors)


MODELS: list[tuple[str, type[LorakeetError], Callable[[Path, Path], object]]] = [
    ("text", WeightsDamaged, lambda path, model: path.write_text("hello")),
    ("empty", WeightsDamaged, lambda path, model: path.write_bytes(b"")),
    ("cut", WeightsDamaged, lambda path, model: path.write_bytes(model.read_bytes()[:-100])),
    ("unknown", WeightsUnknown, lambda path, model: _write(path, {"some.tensor": torch.zeros(2)})),
    (
        "lora",
        WeightsMismatch,
        lambda path, model: _lora(path, 32, "lora_unet_mid_block_attentions_0_proj_in"),
    ),
    (
        "vae",
        WeightsMismatch,
        lambda path, model: _write(
            path,
            {
                key.removeprefix("first_stage_model."): each
                for key, each in load_file(model).items()
                if key.startswith("first_stage_model.")
            },
        ),
    ),
]


@pytest.mark.parametrize(("kind", "make"), [each[1:] for each in MODELS], ids=[each[0] for each in MODELS])
def test_a_file_that_is_no_model(
    model: Path, source: Path, tmp_path: Path, kind: type[LorakeetError], make: Callable[[Path, Path], object]
) -> None:
    file = tmp_path / "base.safetensors"
    make(file, model)
    refused(runs.request(file, source, tmp_path / "run"), kind, file)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".gguf"])
def test_formats_that_run_code_or_are_others_are_not_opened(
    source: Path, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"base{suffix}"
    file.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert refused(runs.request(file, source, tmp_path / "run"), WeightsFormat, file).hint


def test_a_model_of_another_family_than_is_meant(
    bases: Mapping[str, Path], source: Path, tmp_path: Path
) -> None:
    for family, other in (("sd15", "sdxl"), ("sdxl", "sd15")):
        asked = runs.request(bases[family], source, tmp_path / family, model={"family": other})
        error = refused(asked, WeightsMismatch, f"{SETTINGS}.model.family")
        assert error.details == {"family": family, "expected": other}


def test_a_file_with_another_sha256_than_is_meant(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run", model={"base": {"sha256": "0" * 64}})
    with pytest.raises(LorakeetError, match="SHA-256") as caught:
        runs.go(asked)
    assert (caught.value.kind, caught.value.where) == ("weights_changed", str(model))


def test_a_vae_that_is_none(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    file = _write(tmp_path / "vae.safetensors", {"some.tensor": torch.zeros(2)})
    asked = runs.request(bases["sd15"], source, tmp_path / "run")
    refused(msgspec.structs.replace(asked, vae=str(file)), WeightsMismatch, file)


def test_a_rate_for_a_text_encoder_that_the_model_does_not_have(
    model: Path, source: Path, tmp_path: Path
) -> None:
    asked = runs.request(model, source, tmp_path / "run", optimizer={"type": "adamw", "rates": {"te2": 1e-5}})
    refused(asked, InvalidParams, f'{SETTINGS}.optimizer.rates["te2"]')


def test_modules_that_the_model_does_not_have(model: Path, source: Path, tmp_path: Path) -> None:
    asked = runs.request(model, source, tmp_path / "run", network={"include": ["lora_unet_nothing_*"]})
    refused(asked, InvalidParams, f"{SETTINGS}.network.include[0]")


# LoRAs to start from.


def _starting(model: Path, source: Path, folder: Path, lora: Path, **network: Any) -> Request:
    network = {"type": "lora", "rank": 4, "start_from": {"path": str(lora)}, **network}
    return runs.request(model, source, folder, network=network)


def test_a_lora_of_another_family(bases: Mapping[str, Path], source: Path, tmp_path: Path) -> None:
    other = runs.request(bases["sdxl"], source, tmp_path / "first", training={"steps": 1})
    runs.go(other)
    asked = _starting(bases["sd15"], source, tmp_path / "run", Path(other.output))
    error = refused(asked, WeightsMismatch, f"{SETTINGS}.network.start_from")
    assert error.details == {"family": "sdxl", "expected": "sd15"}


def test_a_lora_of_other_ranks(model: Path, source: Path, tmp_path: Path) -> None:
    first = runs.request(model, source, tmp_path / "first", training={"steps": 1})
    runs.go(first)
    asked = _starting(model, source, tmp_path / "run", Path(first.output), rank=8)
    assert "rank" in refused(asked, WeightsMismatch, first.output).message


def test_a_lora_with_numbers_that_are_none(model: Path, source: Path, tmp_path: Path) -> None:
    first = runs.request(model, source, tmp_path / "first", training={"steps": 1})
    runs.go(first)
    tensors = load_file(first.output)
    next(each for key, each in tensors.items() if key.endswith("lora_up.weight"))[0, 0] = torch.nan
    file = _write(tmp_path / "nan.safetensors", tensors)
    refused(_starting(model, source, tmp_path / "run", file), WeightsNotFinite, file)


@pytest.mark.parametrize("name", ["model", "text"])
def test_a_start_that_is_no_lora(model: Path, source: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "start.safetensors"
    if name == "model":
        shutil.copy(model, file)
        refused(
            _starting(model, source, tmp_path / "run", file),
            WeightsMismatch,
            f"{SETTINGS}.network.start_from",
        )
    else:
        file.write_text("hello")
        refused(_starting(model, source, tmp_path / "run", file), WeightsDamaged, file)


# Prompts.


def test_a_prompt_with_an_option_that_is_none(model: Path, source: Path, tmp_path: Path) -> None:
    sampling = {"prompts": ["a cat", "a dog --s many"], "every_steps": 1}
    asked = runs.request(model, source, tmp_path / "run", sampling=sampling)
    refused(asked, InvalidParams, f"{SETTINGS}.sampling.prompts[1]")


def test_a_file_of_prompts_with_a_wrong_line(model: Path, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog --s many\n")
    sampling = {"file": str(file), "every_steps": 1}
    asked = runs.request(model, source, tmp_path / "run", sampling=sampling)
    refused(msgspec.structs.replace(asked, prompts=str(file)), InvalidParams, f"{file}:2")


# Memory.


def _starved(*_: object, **__: object) -> None:
    """As the allocator of torch has it."""
    torch.empty(10**15)


def test_memory_that_runs_out_in_a_step(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = runs.request(model, source, tmp_path / "run", training={"batch_size": 4})
    monkeypatch.setattr(Objective, "draw", _starved)
    error = refused(asked, OutOfMemory, None)
    assert error.message == "Memory ran out while a step was computed."
    assert error.details["phase"] == "train"
    assert error.details["changes"][:2] == [
        {"memory.gradient_checkpointing": True},
        {"training.batch_size": 2, "training.accumulation": 2},
    ]
    assert error.hint is not None and '`precision.compute = "bf16"`' in error.hint


@pytest.mark.parametrize(("phase", "name"), [("latents", "encode_pixels"), ("text", "encode_text")])
def test_memory_that_runs_out_while_encoding(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, name: str
) -> None:
    monkeypatch.setattr(Sd15Model, name, _starved)
    error = refused(runs.request(model, source, tmp_path / "run"), OutOfMemory, None)
    assert error.details["phase"] == phase


def test_memory_that_runs_out_while_the_network_is_made(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injection, "Network", _starved)
    assert refused(runs.request(model, source, tmp_path / "run"), OutOfMemory, None).details["changes"]


def test_memory_that_the_system_refuses(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused_by_the_system(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(Sd15Model, "encode_pixels", refused_by_the_system)
    error = refused(runs.request(model, source, tmp_path / "run"), OutOfMemory, None)
    assert (error.details["phase"], bool(error.details["changes"])) == ("latents", True)
