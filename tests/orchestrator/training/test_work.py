"""What a training is asked of a kernel: the pictures of its beginning, and the same request every time."""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import CaptionCollision, CaptionUnreadable, FileMissing, KernelFault, NoImages
from contract.methods.job import FailedImage, ManifestItem
from contract.methods.train import TrainMetrics, TrainOutcome, TrainParams
from contract.notifications import Artifact, Partial
from contract.validation import decode
from orchestrator.jobs import artifacts
from orchestrator.jobs.requests import kernel_request
from orchestrator.jobs.table import Epoch, assign
from orchestrator.jobs.work import Prepared
from orchestrator.training.work import TrainWork
from tests.orchestrator.datasets.shelf import Shelf, copy_photographs
from tests.orchestrator.training.stub_run import StubRun, asked

pytestmark = pytest.mark.anyio


async def prepared(shelf: Shelf, **fields: Any) -> tuple[StubRun, Prepared]:
    """A new training of the dataset, and what its kernel gets."""
    run = StubRun(shelf.studio, await asked(shelf.studio, {"dataset": shelf.dataset.id}, **fields))
    return run, await TrainWork().prepare(run)


def items(said: Prepared) -> list[ManifestItem]:
    lines = Path(said.inputs["manifest"]).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=ManifestItem) for line in lines]


def below(shelf: Shelf, path: str) -> str:
    return os.path.relpath(path, shelf.folder)


def filled(shelf: Shelf) -> None:
    """Photographs with captions of all sorts, in folders."""
    copy_photographs(shelf.folder / "10_cat", ["chelsea.png"])
    copy_photographs(shelf.folder / "styles" / "ink", ["coffee.png"])
    copy_photographs(shelf.folder, ["rocket.jpg", "astronaut.png"])
    for name, text in {
        "10_cat/chelsea.txt": "a cat\n",
        "10_cat/chelsea.caption": "A cat looks at you.\n",
        "styles/ink/coffee.caption": "A cup.\n",
        "rocket.txt": "\ufeffrocket, night ",
    }.items():
        (shelf.folder / name).write_bytes(text.encode())


async def test_a_kernel_gets_the_pictures_with_the_captions_of_the_journal(shelf: Shelf) -> None:
    filled(shelf)
    _, said = await prepared(shelf, settings={"subsets": [{"name": "styles"}]})
    found = {below(shelf, each.path): (each.caption, each.subset) for each in items(said)}
    assert found == {
        "10_cat/chelsea.png": ("a cat", "10_cat"),
        "astronaut.png": (None, "shelf"),
        "rocket.jpg": ("rocket, night", "shelf"),
        "styles/ink/coffee.png": ("A cup.", "styles"),
    }
    assert all(each.sha256 for each in items(said))
    captions = {"captions": {"files": [".caption"]}}
    _, sentences = await prepared(shelf, settings={"data": captions})
    assert [each.caption for each in items(sentences)] == ["A cat looks at you.", None, None, "A cup."]


async def test_the_request_is_one_that_kernels_take_and_the_same_in_every_attempt(shelf: Shelf) -> None:
    filled(shelf)
    run, said = await prepared(shelf, output="mine")
    home = shelf.studio.home
    params = kernel_request(run.job, TrainWork(), said)
    decode(params, TrainParams)
    assert params["outputs"] == {
        "file": str(home / "outputs" / "mine.safetensors"),
        "run": str(home / "runs" / run.job.id),
        "cache": str(home / "caches"),
    }
    assert set(said.roots) == {
        str(shelf.folder),
        str(home / "outputs"),
        str(run.folder),
        str(home / "caches"),
        str(home / "models" / "checkpoints"),
    }
    before = items(said)
    (shelf.folder / "rocket.txt").write_text("changed", encoding="utf-8")
    (shelf.folder / "astronaut.png").unlink()
    again = await TrainWork().prepare(run)
    assert (again, items(again)) == (said, before)
    _, later = await prepared(shelf)
    assert [each.caption for each in items(later)] == ["a cat", "changed", "A cup."]


async def test_a_picture_that_cannot_be_read_is_left_to_the_settings(shelf: Shelf) -> None:
    copy_photographs(shelf.folder, ["rocket.jpg"])
    (shelf.folder / "broken.png").write_bytes(b"no picture")
    _, said = await prepared(shelf)
    assert [os.path.basename(each.path) for each in items(said)] == ["broken.png", "rocket.jpg"]


async def test_what_is_wrong_with_a_dataset_is_said_before_any_kernel_starts(shelf: Shelf) -> None:
    with pytest.raises(NoImages, match="Shelf"):
        await prepared(shelf)
    filled(shelf)
    with pytest.raises(FileMissing, match="`dogs`"):
        await prepared(shelf, settings={"subsets": [{"name": "dogs"}]})
    (shelf.folder / "rocket.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaptionUnreadable):
        await prepared(shelf)
    captions = {"captions": {"files": [".caption"]}}
    await prepared(shelf, settings={"data": captions})
    (shelf.folder / "rocket.txt").unlink()
    (shelf.folder / "rocket.png").write_bytes((shelf.folder / "astronaut.png").read_bytes())
    with pytest.raises(CaptionCollision):
        await prepared(shelf)


async def test_folders_are_looked_through_by_the_kernel(shelf: Shelf) -> None:
    filled(shelf)
    folders = [{"root": "datasets", "path": "shelf/10_cat"}, {"root": "datasets", "path": "shelf/styles"}]
    job = await asked(shelf.studio, {"folders": folders})
    assert (job.output, job.name) == ("cat", "cat")
    run = StubRun(shelf.studio, job)
    said = await TrainWork().prepare(run)
    assert said.inputs == {"folders": [str(shelf.folder / "10_cat"), str(shelf.folder / "styles")]}
    assert set(said.inputs["folders"]) <= set(said.roots)
    decode(kernel_request(job, TrainWork(), said), TrainParams)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege on Windows")
async def test_a_model_that_is_a_folder_of_links_is_granted_with_what_they_lead_to(
    shelf: Shelf, tmp_path: Path
) -> None:
    filled(shelf)
    blobs, model = tmp_path / "blobs", shelf.studio.home / "models" / "folder"
    blobs.mkdir()
    (blobs / "1234").touch()
    (model / "unet").mkdir(parents=True)
    (model / "unet" / "weights.safetensors").symlink_to(blobs / "1234")
    _, said = await prepared(shelf, settings={"model": {"base": str(model)}})
    assert {str(model), str(model / "unet"), str(blobs)} <= set(said.roots)


async def test_another_run_goes_on_from_a_checkpoint_with_the_pictures_of_its_run(shelf: Shelf) -> None:
    filled(shelf)
    first, said = await prepared(shelf)
    checkpoint = first.folder / "checkpoints" / "00001-step-00000004" / "manifest.json"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    number = await kept(shelf, first, checkpoint)
    (shelf.folder / "rocket.jpg").unlink()
    source = {"dataset": shelf.dataset.id, "checkpoint": {"job": first.job.id, "artifact": number}}
    second = StubRun(shelf.studio, await asked(shelf.studio, source))
    longer = await TrainWork().prepare(second)
    assert longer.inputs["checkpoint"] == str(checkpoint.parent)
    assert str(checkpoint.parent) in longer.roots
    assert items(longer) == items(said)
    checkpoint.unlink()
    with pytest.raises(FileMissing, match="given way"):
        await TrainWork().prepare(second)


async def kept(shelf: Shelf, run: StubRun, path: Path) -> int:
    """The number of a checkpoint that the job has announced."""
    boot_id = shelf.studio.boot.boot_id
    made = Artifact(
        job_id=run.job.id,
        role="checkpoint",
        path=str(path),
        bytes=0,
        sha256="0" * 64,
        media_type="application/json",
        labels={"step": 4, "epoch": 1},
    )

    def write(db: Any) -> int:
        job = assign(db, run.job.id, "cpu:run", boot_id)
        return artifacts.keep(db, Epoch(boot_id, job.run_epoch), made).number

    return await shelf.studio.control.write(write)


async def test_steps_are_kept_by_their_keys_and_pictures_left_out_are_named(shelf: Shelf) -> None:
    filled(shelf)
    run, _ = await prepared(shelf)
    step = TrainMetrics(
        step=3,
        epoch=1,
        loss=0.5,
        loss_average=0.25,
        rates={"unet": 1e-4, "te1": 1e-5},
        seconds=2.0,
        images_per_s=0.5,
        data_wait=0.01,
    )
    error = NoImages("It is no picture.", where="x").to_wire()
    failure = FailedImage(index=0, image=str(shelf.folder / "rocket.jpg"), error=error)
    said = Partial(
        job_id=run.job.id, items=[msgspec.to_builtins(step)], failed=[msgspec.to_builtins(failure)]
    )
    TrainWork().take(run, said)
    assert run.measured == [
        (
            3,
            {
                "loss": 0.5,
                "loss_average": 0.25,
                "epoch": 1.0,
                "seconds": 2.0,
                "images_per_s": 0.5,
                "data_wait": 0.01,
                "lr_unet": 1e-4,
                "lr_te1": 1e-5,
            },
        )
    ]
    assert run.lines == ["datasets/shelf/rocket.jpg: It is no picture."]
    with pytest.raises(KernelFault):
        TrainWork().take(run, Partial(job_id=run.job.id, items=[{"step": "one"}]))


async def test_an_outcome_has_no_absolute_paths(shelf: Shelf) -> None:
    filled(shelf)
    run, _ = await prepared(shelf)
    home, checkpoint = shelf.studio.home, run.folder / "checkpoints" / "00001-step-00000004"
    outcome = TrainOutcome(
        file=str(home / "outputs" / "mine.safetensors"),
        bytes=1,
        sha256="0" * 64,
        steps=4,
        epochs=1,
        checkpoint=str(checkpoint),
    )
    kept_outcome = await TrainWork().finish(run, outcome)
    assert kept_outcome["file"] == "outputs/mine.safetensors"
    assert kept_outcome["checkpoint"] == "checkpoints/00001-step-00000004"
    assert str(home) not in msgspec.json.encode(kept_outcome).decode()
    so_far = await TrainWork().finish(run, {"steps": 2, "epochs": 0, "checkpoint": str(checkpoint)})
    assert so_far == {"steps": 2, "epochs": 0, "checkpoint": "checkpoints/00001-step-00000004"}
    assert await TrainWork().finish(run, None) is None
