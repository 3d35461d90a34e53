"""What is asked for becomes a job, and a job what a kernel is asked."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.methods.registry import METHODS
from orchestrator.ids import new_id
from orchestrator.jobs.job import Job
from orchestrator.jobs.requests import JobRequest, kernel_request
from orchestrator.jobs.sources import FileRef, JobSource
from orchestrator.jobs.work import Prepared
from orchestrator.settings import ModelFolder
from orchestrator.studio import Studio, open_studio
from tests.orchestrator.jobs.deeds import DeedWork, open_bench

pytestmark = pytest.mark.anyio


async def _refused(studio: Studio, **fields: Any) -> dict[str, str]:
    """What is wrong, by where it is."""
    with pytest.raises(InvalidParams) as refused:
        await studio.jobs.create(new_id("job"), JobRequest(**fields))
    return {each["where"]: each["message"] for each in refused.value.details["problems"]}


def _tag(path: Path | str) -> dict[str, Any]:
    return {"model": {"path": str(path)}}


async def test_a_path_in_the_settings_lies_where_the_studio_may_look(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_studio(home, devices=(), run=False) as studio:
        files = [FileRef(root="datasets", path="a.png")]
        _write(home / "datasets" / "a.png")
        _write(home / "models" / "tagger" / "model.onnx")
        _write(tmp_path / "elsewhere" / "model.onnx")
        (home / "models" / "link").symlink_to(tmp_path / "elsewhere")
        wanted: dict[str, Any] = {"kind": "tag", "source": JobSource(files=files)}
        for path in (tmp_path / "elsewhere", home / "models" / "link", home, "models", "/", "file://host/x"):
            assert list(await _refused(studio, settings=_tag(path), **wanted)) == ["$.settings.model.path"]
        request = JobRequest(settings=_tag(home / "models" / "tagger"), **wanted)
        job = await studio.jobs.create(new_id("job"), request)
        assert (job.existing, job.settings["general_threshold"]) == ("skip", 0.35)
        folder = ModelFolder(path=str(tmp_path / "elsewhere"))
        await studio.settings.change({"model_folders": [{"path": folder.path}]}, studio.settings.etag)
        await studio.jobs.create(new_id("job"), JobRequest(settings=_tag(folder.path), **wanted))


async def test_a_file_of_weights_may_be_named_as_it_is_listed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_studio(home, devices=(), run=False) as studio:
        folder = home / "models"
        for name in ("checkpoints/base.safetensors", "loras/style.safetensors", "vae/style.safetensors"):
            _write(folder / name)
        _write(home / "datasets" / "10_cat" / "a.png")

        async def base(said: Any) -> Any:
            settings = {"model": {"base": said}, "training": {"steps": 1}}
            source = JobSource(folders=[FileRef(root="datasets", path="10_cat")])
            request = JobRequest(kind="train", settings=settings, source=source)
            job = await studio.jobs.create(new_id("job"), request)
            return job.settings["model"]["base"]["path"]

        there = str(folder / "checkpoints" / "base.safetensors")
        for said in ("base", "base.safetensors", "checkpoints/base.safetensors", {"path": "base"}, there):
            assert await base(said) == there
        assert await base("models/vae/style.safetensors") == str(folder / "vae" / "style.safetensors")
        for wrong, why in (("Base", "neither the id nor the name"), ("style", "`models/loras/style.saf")):
            with pytest.raises(InvalidParams, match=why) as refused:
                await base(wrong)
            assert refused.value.where == "$.settings.model.base"


async def test_the_settings_of_a_training_are_laid_over_its_preset_choice_by_choice(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_studio(home, devices=(), run=False) as studio:
        _write(home / "models" / "base.safetensors")
        _write(home / "datasets" / "10_cat" / "a.png")
        preset = {
            "optimizer": {"type": "lion", "learning_rate": 1e-5, "betas": [0.8, 0.9]},
            "training": {"epochs": 3, "batch_size": 4},
            "network": {"rank": 64},
        }
        await studio.presets.create(new_id("preset"), "train", "Large", "", preset)
        source = JobSource(folders=[FileRef(root="datasets", path="10_cat")])

        async def made(**settings: Any) -> dict[str, Any]:
            whole = {"model": {"base": "base"}} | settings
            request = JobRequest(kind="train", preset="Large", settings=whole, source=source)
            return (await studio.jobs.create(new_id("job"), request)).settings

        same = await made(optimizer={"learning_rate": 2e-5})
        assert (same["optimizer"]["type"], same["optimizer"]["betas"]) == ("lion", [0.8, 0.9])
        assert (same["optimizer"]["learning_rate"], same["network"]["rank"]) == (2e-5, 64)
        assert (same["training"]["epochs"], same["training"]["batch_size"]) == (3, 4)
        other = await made(optimizer={"type": "adamw"}, training={"steps": 9}, network={"type": "locon"})
        assert (other["optimizer"]["betas"], other["optimizer"]["learning_rate"]) == ([0.9, 0.99], 1e-4)
        assert (other["training"]["steps"], other["training"]["batch_size"]) == (9, 4)
        assert (other["network"]["rank"], other["network"]["conv_rank"]) == (16, 8)


async def test_a_training_is_called_after_what_it_is_trained_on_unless_that_name_is_taken(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    async with open_studio(home, devices=(), run=False) as studio:
        _write(home / "models" / "base.safetensors")
        _write(home / "datasets" / "10_cat" / "a.png")
        source = JobSource(folders=[FileRef(root="datasets", path="10_cat")])

        async def output(**tables: Any) -> str | None:
            settings = {"model": {"base": "base"}, "training": {"steps": 1}} | tables
            request = JobRequest(kind="train", settings=settings, source=source)
            return (await studio.jobs.create(new_id("job"), request)).output

        # What is left of an earlier training of that name.
        _write(home / "outputs" / "cat-000002.safetensors")
        _write(home / "outputs" / "ink-step00000500.safetensors")
        assert [await output() for _ in range(2)] == ["cat-2", "cat-3"]
        assert await output(metadata={"title": "ink"}) == "ink-2"
        assert await output(metadata={"title": "A / B: C"}) == "A _ B_ C"


async def test_a_model_may_be_named_as_the_studio_or_as_people_do(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_studio(home, devices=(), run=False) as studio:
        _write(home / "datasets" / "a.png")
        wanted: dict[str, Any] = {
            "kind": "tag",
            "source": JobSource(files=[FileRef(root="datasets", path="a.png")]),
        }
        meant = {
            "model_demo_tagger": {"path": (await studio.models.locate("model_demo_tagger")).path},
            "wd-vit-v3": {"repo": "SmilingWolf/wd-vit-tagger-v3"},
            "owner/name@v2": {"repo": "owner/name", "revision": "v2"},
        }
        for name, model in meant.items():
            request = JobRequest(settings={"model": name}, **wanted)
            assert (await studio.jobs.create(new_id("job"), request)).settings["model"] == model
        for name in ("model_of_nobody", "nothing like it", "/etc"):
            refused = await _refused(studio, settings={"model": name}, **wanted)
            assert all(where.startswith("$.settings.model") for where in refused)


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


async def test_a_source_has_to_be_there(tmp_path: Path) -> None:
    async with open_studio(tmp_path / "home", devices=(), run=False) as studio:
        settings = {"model": {"repo": "any/one"}}
        missing = JobSource(dataset="ds_00000000000000000000000000")
        wrong = await _refused(studio, kind="tag", settings=settings, source=missing)
        assert wrong == {"$.source.dataset": "there is no such dataset"}
        files = JobSource(files=[FileRef(root="datasets", path="no.png"), FileRef(root="x", path="y")])
        wrong = await _refused(studio, kind="tag", settings=settings, source=files)
        assert list(wrong) == ["$.source.files[0]", "$.source.files[1]"]
        assert list(await _refused(studio, kind="tag", settings=settings)) == ["$.source"]
        assert "takes dataset" in str(await _refused(studio, kind="import", source=files))


async def test_the_kernel_is_asked_in_the_words_of_its_contract(tmp_path: Path) -> None:
    async with open_bench(tmp_path, run=False) as bench:
        job: Job = await bench.start()
    prepared = Prepared(settings={"model": {"repo": "any/one"}}, inputs={"images": ["/a.png"]}, roots=["/"])
    params = kernel_request(job, DeedWork(), prepared)
    decoded = METHODS["tag"].payload.decode(msgspec.json.encode(params))
    assert decoded is not None
    assert "outputs" not in params
