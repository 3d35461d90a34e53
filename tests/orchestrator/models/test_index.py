import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import NotFound, StateConflict
from orchestrator.files.trash import Trash
from orchestrator.models.entry import DEMO_TAGGER, Model
from orchestrator.models.index import ModelIndex
from orchestrator.settings import ModelFolder, Settings
from orchestrator.settings.tables import Layout
from tests.orchestrator.models.files import write_model

pytestmark = pytest.mark.anyio

_posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
_UNET = {"model.diffusion_model.x": ("F16", [4]), "first_stage_model.x": ("F16", [4])}
_LORA = {"lora_unet_x.lora_down.weight": ("F16", [4, 4])}


class Studio:
    """An index with settings that a test may change."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings()
        self.changes = 0
        self.trash = Trash(home)
        self.index = ModelIndex(home, lambda: self.settings, self.trash, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def found(self) -> dict[str, Model]:
        """All models but the one that comes with the kernel, by path."""
        return {each.path: each for each in await self.index.list() if not each.builtin}

    def use(self, folder: Path, layout: Layout) -> str:
        """Have another folder of models; its root."""
        place = ModelFolder(path=str(folder), layout=layout)
        self.settings = Settings(model_folders=[*self.settings.model_folders, place])
        return place.id


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "home")


def _old(path: Path) -> None:
    """As if it had been there for a while, so that its time of change can be relied on."""
    os.utime(path, ns=(10**18, 10**18))


def _write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


async def test_at_first_there_is_the_tagger_that_comes_with_the_kernel(studio: Studio) -> None:
    (demo,) = await studio.index.list()
    assert (demo.id, demo.kind, demo.builtin, demo.loadable) == (DEMO_TAGGER, "tagger", True, True)
    located = await studio.index.locate(DEMO_TAGGER)
    assert "model.onnx" in os.listdir(located.path)


async def test_a_kernel_that_is_not_installed_brings_no_tagger(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.models.layouts.find_spec", lambda name: None)
    assert await studio.index.list() == []


async def test_a_model_is_described(studio: Studio) -> None:
    metadata = {
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.title": "Ink\n  drawings",
        "modelspec.trigger_phrase": "ink style",
    }
    file = write_model(studio.home / "models" / "loras" / "mine" / "Ink.v2.safetensors", _LORA, metadata)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    model = (await studio.found())["loras/mine/Ink.v2.safetensors"]
    assert model.id.startswith("model_") and len(model.id) == 30
    assert (model.name, model.kind, model.family, model.dtype) == ("Ink.v2", "lora", "sdxl", "F16")
    assert (model.root, model.format, model.size_bytes) == ("models", "safetensors", file.stat().st_size)
    assert (model.title, model.trigger) == ("Ink drawings", "ink style")
    assert model.modified_at == "2023-11-14T22:13:20.000Z"
    assert (model.loadable, model.reason, model.is_link, model.builtin) == (True, None, False, False)
    assert (await studio.index.locate(model.id)).path == str(file)


async def test_our_own_folders_say_what_a_file_does_not(studio: Studio) -> None:
    for folder in (
        "checkpoints",
        "vae",
        "loras",
        "text_encoders",
        "embeddings",
        "controlnet",
        "upscale_models",
    ):
        write_model(studio.home / "models" / folder / "x.safetensors")
    write_model(studio.home / "models" / "x.safetensors")
    write_model(studio.home / "models" / "mine" / "x.safetensors")
    assert {path: each.kind for path, each in (await studio.found()).items()} == {
        "checkpoints/x.safetensors": "checkpoint",
        "vae/x.safetensors": "vae",
        "loras/x.safetensors": "lora",
        "text_encoders/x.safetensors": "text_encoder",
        "embeddings/x.safetensors": "embedding",
        "controlnet/x.safetensors": "controlnet",
        "upscale_models/x.safetensors": "upscaler",
        "x.safetensors": "unknown",
        "mine/x.safetensors": "unknown",
    }


async def test_a_file_in_the_wrong_folder_is_what_it_says_it_is(studio: Studio) -> None:
    write_model(studio.home / "models" / "checkpoints" / "x.safetensors", _LORA)
    assert (await studio.found())["checkpoints/x.safetensors"].kind == "lora"


@pytest.mark.parametrize("inside", ["models/", ""])
async def test_the_folders_of_comfyui_are_known(inside: str, studio: Studio, tmp_path: Path) -> None:
    names = {
        "checkpoints": "checkpoint",
        "diffusion_models": "diffusion_model",
        "unet": "diffusion_model",
        "vae": "vae",
        "loras": "lora",
        "clip": "text_encoder",
        "text_encoders": "text_encoder",
        "embeddings": "embedding",
        "upscale_models": "upscaler",
        "controlnet": "controlnet",
    }
    for name in (*names, "custom_nodes"):
        write_model(tmp_path / "comfy" / inside / name / "deep" / "x.safetensors")
    root = studio.use(tmp_path / "comfy", "comfyui")
    found = await studio.found()
    assert {path: each.kind for path, each in found.items()} == {
        f"{inside}{name}/deep/x.safetensors": kind for name, kind in names.items()
    }
    assert {each.root for each in found.values()} == {root}
    assert len({each.id for each in found.values()}) == len(names)


async def test_the_folders_of_a1111_are_known(studio: Studio, tmp_path: Path) -> None:
    names = {
        "models/Stable-diffusion": "checkpoint",
        "models/VAE": "vae",
        "models/Lora": "lora",
        "models/LyCORIS": "lora",
        "models/text_encoder": "text_encoder",
        "models/ControlNet": "controlnet",
        "models/ESRGAN": "upscaler",
        "embeddings": "embedding",
    }
    for name in (*names, "outputs"):
        write_model(tmp_path / "webui" / name / "x.safetensors")
    studio.use(tmp_path / "webui", "a1111")
    found = await studio.found()
    assert {path: each.kind for path, each in found.items()} == {
        f"{name}/x.safetensors": kind for name, kind in names.items()
    }


async def test_in_a_plain_folder_every_file_says_what_it_is(studio: Studio, tmp_path: Path) -> None:
    write_model(tmp_path / "plain" / "a.safetensors", _UNET)
    write_model(tmp_path / "plain" / "loras" / "b.sft", _LORA)
    write_model(tmp_path / "plain" / "loras" / "c.safetensors")
    studio.use(tmp_path / "plain", "plain")
    kinds = {path: each.kind for path, each in (await studio.found()).items()}
    assert kinds == {"a.safetensors": "checkpoint", "loras/b.sft": "lora", "loras/c.safetensors": "unknown"}


async def test_what_cannot_be_used_is_listed_with_what_to_do(studio: Studio) -> None:
    folder = studio.home / "models" / "checkpoints"
    for name in ("a.ckpt", "a.pt", "a.PTH", "a.bin", "a.gguf", "broken.safetensors", "notes.txt"):
        _write_text(folder / name, "no model at all")
    whole = write_model(folder / "cut.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    found = await studio.found()
    assert not any(each.loadable for each in found.values())
    reasons = {path.partition("/")[2]: str(each.reason) for path, each in found.items()}
    assert reasons.keys() == {
        "a.ckpt",
        "a.pt",
        "a.PTH",
        "a.bin",
        "a.gguf",
        "broken.safetensors",
        "cut.safetensors",
    }
    assert all("Convert it to safetensors" in reasons[name] for name in ("a.ckpt", "a.pt", "a.PTH", "a.bin"))
    assert "1 bytes are missing" in reasons["cut.safetensors"]
    assert "no whole safetensors file" in reasons["broken.safetensors"]
    assert {each.kind for each in found.values()} == {"checkpoint"}


async def test_a_tagger_is_a_folder(studio: Studio) -> None:
    folder = studio.home / "models" / "taggers" / "mine"
    _write_text(folder / "model.onnx", "12345")
    _write_text(folder / "selected_tags.csv", "123")
    _write_text(studio.home / "models" / "taggers" / "half" / "model.onnx", "x")
    (tagger,) = (await studio.found()).values()
    assert (tagger.name, tagger.kind, tagger.path, tagger.size_bytes) == ("mine", "tagger", "taggers/mine", 8)
    assert (tagger.format, tagger.loadable) == ("onnx", True)


async def test_hidden_files_and_folders_are_passed_over(studio: Studio) -> None:
    write_model(studio.home / "models" / ".cache" / "x.safetensors")
    write_model(studio.home / "models" / ".x.safetensors")
    assert await studio.found() == {}


@_posix
async def test_links_to_files_are_followed_and_shown_and_links_to_folders_are_not(
    studio: Studio, tmp_path: Path
) -> None:
    big = write_model(tmp_path / "big.safetensors", _LORA)
    folder = studio.home / "models" / "loras"
    folder.mkdir(parents=True)
    (folder / "link.safetensors").symlink_to(big)
    (folder / "nowhere.safetensors").symlink_to(tmp_path / "gone")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    found = await studio.found()
    assert found.keys() == {"loras/link.safetensors", "loras/nowhere.safetensors"}
    link, nowhere = (found[f"loras/{name}.safetensors"] for name in ("link", "nowhere"))
    assert (link.is_link, link.loadable, link.size_bytes) == (True, True, big.stat().st_size)
    assert (nowhere.is_link, nowhere.loadable) == (True, False) and "nowhere" in str(nowhere.reason)


@_posix
async def test_a_programs_own_folder_may_be_a_link(studio: Studio, tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere" / "x.safetensors")
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "loras").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    studio.use(tmp_path / "comfy", "comfyui")
    assert (await studio.found())["loras/x.safetensors"].kind == "lora"


@_posix
async def test_pipes_and_folders_with_the_name_of_a_model_are_none(studio: Studio) -> None:
    (studio.home / "models" / "x.safetensors").mkdir(parents=True)
    if sys.platform != "win32":
        os.mkfifo(studio.home / "models" / "y.safetensors")
    assert await studio.found() == {}


@_posix
async def test_a_name_that_is_no_unicode_is_listed_and_can_be_deleted(studio: Studio) -> None:
    file = write_model(studio.home / "models" / os.fsdecode(b"caf\xe9.safetensors"))
    (model,) = (await studio.found()).values()
    assert model.name.isascii() and (await studio.index.locate(model.id)).path == str(file)
    trashed = await studio.index.discard(model.id)
    assert os.listdir(studio.home / "models") == []
    studio.trash.restore(trashed.id)
    assert os.listdir(studio.home / "models") == [file.name]


async def test_what_lies_in_two_folders_at_once_is_listed_once(studio: Studio, tmp_path: Path) -> None:
    write_model(tmp_path / "all" / "comfy" / "loras" / "x.safetensors")
    first = studio.use(tmp_path / "all", "plain")
    studio.use(tmp_path / "all" / "comfy", "comfyui")
    studio.use(tmp_path / "all" / "comfy" / "loras", "plain")
    assert [each.root for each in (await studio.found()).values()] == [first]


async def test_a_header_is_read_once_as_long_as_its_file_is_the_same(studio: Studio) -> None:
    folder = studio.home / "models" / "loras"
    for number in range(20):
        write_model(folder / f"{number}.safetensors", _LORA)
    await studio.found()
    await studio.index.rescan()
    assert studio.index.reads == 20
    write_model(folder / "3.safetensors", _UNET)
    await studio.index.rescan()
    assert studio.index.reads == 21
    assert (await studio.found())["loras/3.safetensors"].kind == "checkpoint"


async def test_headers_are_read_once_over_restarts(studio: Studio) -> None:
    for number in range(20):
        write_model(studio.home / "models" / "loras" / f"{number}.safetensors", _LORA)
    before = await studio.found()
    again = Studio(studio.home)
    assert await again.found() == before and again.index.reads == 0
    write_model(studio.home / "models" / "loras" / "3.safetensors", _UNET)
    once_more = Studio(studio.home)
    assert (await once_more.found())["loras/3.safetensors"].kind == "checkpoint"
    assert once_more.index.reads == 1


@pytest.mark.parametrize("content", [b"", b"[]", b'{"v":1,"facts":[[5]]}', b'{"v":0,"facts":[]}', b"\xff"])
async def test_what_is_remembered_wrongly_is_read_again(content: bytes, studio: Studio) -> None:
    write_model(studio.home / "models" / "loras" / "x.safetensors", _LORA)
    cache = studio.home / "caches" / "models.json"
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert (await studio.found())["loras/x.safetensors"].kind == "lora"
    assert studio.index.reads == 1


async def test_a_disk_on_which_nothing_can_be_remembered_lists_its_models(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_model(studio.home / "models" / "loras" / "x.safetensors", _LORA)
    monkeypatch.setattr(os, "fsync", fail)
    assert len(await studio.found()) == 1
    assert "not kept" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_model(folder / "new.safetensors"),
        lambda folder: (folder / "x.safetensors").unlink(),
        lambda folder: (folder / "x.safetensors").rename(folder / "y.safetensors"),
        lambda folder: write_model(folder / "deep" / "new.safetensors"),
    ],
)
async def test_what_comes_and_goes_is_seen_when_it_is_asked_for(
    change: Callable[[Path], object], studio: Studio
) -> None:
    folder = studio.home / "models" / "loras"
    write_model(folder / "x.safetensors")
    for each in (folder, folder.parent):
        _old(each)
    before = await studio.found()
    assert await studio.found() == before and studio.changes == 0
    change(folder)
    assert await studio.found() != before and studio.changes == 1


async def test_a_folder_that_comes_later_is_seen(studio: Studio, tmp_path: Path) -> None:
    studio.use(tmp_path / "comfy", "comfyui")
    assert await studio.found() == {}
    write_model(tmp_path / "comfy" / "loras" / "x.safetensors")
    write_model(studio.home / "models" / "loras" / "y.safetensors")
    assert (await studio.found()).keys() == {"loras/x.safetensors", "loras/y.safetensors"}


async def test_a_file_that_is_still_growing_is_whole_once_it_is(studio: Studio) -> None:
    file = write_model(studio.home / "models" / "loras" / "x.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    for each in (file, file.parent, file.parent.parent):
        _old(each)
    assert not (await studio.found())["loras/x.safetensors"].loadable
    with file.open("ab") as growing:
        growing.write(whole[-1:])
    assert (await studio.found())["loras/x.safetensors"].loadable


async def test_other_settings_are_followed_at_once(studio: Studio, tmp_path: Path) -> None:
    write_model(tmp_path / "plain" / "x.safetensors")
    assert await studio.found() == {}
    studio.use(tmp_path / "plain", "plain")
    assert len(await studio.found()) == 1
    studio.settings = Settings()
    assert await studio.found() == {}


async def test_the_list_is_by_name_and_can_be_narrowed(studio: Studio) -> None:
    folder = studio.home / "models" / "loras"
    write_model(folder / "beta.safetensors", _LORA, {"ss_base_model_version": "sd_v1"})
    write_model(folder / "Alpha.safetensors", _LORA, {"modelspec.title": "Water colours"})
    write_model(folder / "gamma.safetensors", _UNET)

    async def names(**narrowed: str) -> list[str]:
        return [each.name for each in await studio.index.list(**narrowed)]  # type: ignore[arg-type]

    assert await names() == ["Alpha", "beta", "demo-tagger", "gamma"]
    assert await names(kind="lora") == ["Alpha", "beta"]
    assert await names(family="sd15") == ["beta"]
    assert await names(text="WATER") == ["Alpha"]
    assert await names(text="loras/", kind="checkpoint") == ["gamma"]
    assert await names(text="nothing") == []


async def test_an_id_stays_and_is_of_one_place(studio: Studio, tmp_path: Path) -> None:
    write_model(studio.home / "models" / "loras" / "x.safetensors")
    write_model(tmp_path / "a" / "loras" / "x.safetensors")
    studio.use(tmp_path / "a", "plain")
    ids = [each.id for each in await studio.index.list(text="loras/x")]
    assert len(ids) == len(set(ids)) == 2
    again = Studio(studio.home)
    again.settings = studio.settings
    assert ids == [each.id for each in await again.index.list(text="loras/x")]


async def test_a_model_that_is_not_there_is_not_found(studio: Studio) -> None:
    with pytest.raises(NotFound):
        await studio.index.locate("model_000000000000000000000000")


async def test_a_model_goes_to_the_trash_and_comes_back(studio: Studio) -> None:
    file = write_model(studio.home / "models" / "loras" / "x.safetensors", _LORA)
    content = file.read_bytes()
    (model,) = (await studio.found()).values()
    trashed = await studio.index.discard(model.id)
    assert (trashed.kind, trashed.name, trashed.root, trashed.path) == ("model", "x", "models", model.path)
    assert os.listdir(file.parent) == [] and await studio.found() == {}
    with pytest.raises(NotFound):
        await studio.index.discard(model.id)
    studio.trash.restore(trashed.id)
    assert (await studio.found())[model.path].id == model.id
    assert file.read_bytes() == content


async def test_a_tagger_goes_to_the_trash_with_its_folder(studio: Studio) -> None:
    folder = studio.home / "models" / "taggers" / "mine"
    for name in ("model.onnx", "selected_tags.csv", "README.md"):
        _write_text(folder / name, name)
    (model,) = (await studio.found()).values()
    trashed = await studio.index.discard(model.id)
    assert os.listdir(folder.parent) == []
    studio.trash.restore(trashed.id)
    assert sorted(os.listdir(folder)) == ["README.md", "model.onnx", "selected_tags.csv"]


async def test_what_comes_with_lorakeet_stays(studio: Studio) -> None:
    with pytest.raises(StateConflict, match="comes with Lorakeet"):
        await studio.index.discard(DEMO_TAGGER)


async def test_thousands_of_models_are_listed_without_reading_them_again(studio: Studio) -> None:
    folder = studio.home / "models" / "loras"
    original = write_model(folder / "0.safetensors", _LORA)
    for number in range(1, 3_000):
        os.link(original, folder / f"{number}.safetensors")
    assert len(await studio.found()) == 3_000
    reads = studio.index.reads
    await studio.index.rescan()
    assert studio.index.reads == reads == 3_000
