"""Datasets and their folders: made, registered, kept apart, and never deleted for good."""

import sys
from pathlib import Path
from typing import Any

import pytest

from contract.errors import (
    DiskFull,
    FileMissing,
    FileUnreadable,
    InvalidParams,
    LorakeetError,
    NotFound,
    PathOutsideRoots,
    StateConflict,
)
from orchestrator.datasets import captioning, images
from orchestrator.datasets.projection import project
from orchestrator.datasets.table import Dataset
from orchestrator.ids import new_id
from orchestrator.settings import Root
from orchestrator.studio import Studio
from tests.orchestrator.datasets.shelf import Shelf, copy_photographs
from tests.orchestrator.traversal import PAYLOADS, plant

pytestmark = pytest.mark.anyio


@pytest.fixture
async def photos(empty: Shelf, tmp_path: Path) -> Path:
    """A folder of the user, listed as the root `photos`."""
    folder = tmp_path / "photos"
    copy_photographs(folder / "cats")
    copy_photographs(folder / "cats" / "fluffy", ["chelsea.png"])
    settings = empty.studio.settings
    await settings.change({"roots": [{"id": "photos", "path": str(folder)}]}, settings.etag)
    assert settings.current.roots == [Root(id="photos", path=str(folder))]
    return folder


async def made(studio: Studio, name: str) -> Dataset:
    return await studio.datasets.lifecycle.create(new_id("ds"), name)


async def register(studio: Studio, root: str, path: str) -> Dataset:
    return await studio.datasets.lifecycle.register(new_id("ds"), path or root, root, path)


async def test_a_dataset_gets_a_folder_of_its_own(empty: Shelf) -> None:
    names = ["Cats", "cats", "CATS!", "../../cats", "日本語"]
    datasets = [await made(empty.studio, name) for name in names]
    assert [each.path for each in datasets] == ["cats", "cats-2", "cats-3", "cats-4", "日本語"]
    assert all((empty.folder.parent / each.path).is_dir() for each in datasets)
    assert all(each.managed for each in datasets)


async def test_a_folder_with_something_in_it_is_nobodys_new_dataset(empty: Shelf) -> None:
    copy_photographs(empty.folder.parent / "cats", ["chelsea.png"])
    assert (await made(empty.studio, "cats")).path == "cats-2"


async def test_the_same_id_again_makes_nothing(empty: Shelf) -> None:
    id = new_id("ds")
    lifecycle = empty.studio.datasets.lifecycle
    first = await lifecycle.create(id, "cats")
    assert await lifecycle.create(id, "cats") == first
    assert not (empty.folder.parent / "cats-2").exists()


async def test_a_users_folder_is_used_where_it_lies(empty: Shelf, photos: Path) -> None:
    dataset = await register(empty.studio, "photos", "cats")
    assert (dataset.name, dataset.root, dataset.path, dataset.managed) == ("cats", "photos", "cats", False)
    shelf = Shelf(empty.studio, dataset, photos / "cats")
    assert (await shelf.look()).images == 5
    await shelf.put("fluffy/chelsea.png", "fluffy")
    assert (photos / "cats" / "fluffy" / "chelsea.txt").read_bytes() == b"fluffy\n"


async def test_a_whole_root_can_be_a_dataset(empty: Shelf, photos: Path) -> None:
    dataset = await register(empty.studio, "photos", "")
    shelf = Shelf(empty.studio, dataset, photos)
    assert (await shelf.look()).images == 5
    assert "cats/chelsea.png" in await shelf.images()


@pytest.mark.parametrize("second", ["cats", "cats/fluffy", ""])
async def test_no_folder_belongs_to_two_datasets(empty: Shelf, photos: Path, second: str) -> None:
    await register(empty.studio, "photos", "cats")
    with pytest.raises(StateConflict):
        await register(empty.studio, "photos", second)


async def test_the_same_folder_under_another_root_is_the_same(empty: Shelf, photos: Path) -> None:
    settings = empty.studio.settings
    roots = [{"id": "photos", "path": str(photos)}, {"id": "cats", "path": str(photos / "cats")}]
    await settings.change({"roots": roots}, settings.etag)
    await register(empty.studio, "photos", "cats")
    with pytest.raises(StateConflict):
        await register(empty.studio, "cats", "fluffy")


async def test_the_folder_of_a_dataset_of_ours_is_not_registered_again(empty: Shelf) -> None:
    with pytest.raises(StateConflict):
        await register(empty.studio, "datasets", empty.dataset.path)


@pytest.mark.parametrize("root", ["datasets", "models", "outputs", "runs"])
async def test_the_studios_own_folders_are_no_datasets(empty: Shelf, root: str) -> None:
    with pytest.raises(PathOutsideRoots):
        await register(empty.studio, root, "")


async def test_what_is_no_folder_is_refused(empty: Shelf, photos: Path) -> None:
    with pytest.raises(FileUnreadable):
        await register(empty.studio, "photos", "cats/chelsea.png")
    with pytest.raises(FileMissing):
        await register(empty.studio, "photos", "dogs")
    with pytest.raises(InvalidParams):
        await register(empty.studio, "pictures", "cats")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_no_payload_registers_anything(empty: Shelf, photos: Path) -> None:
    plant(photos)
    for payload in PAYLOADS:
        if payload:
            with pytest.raises(LorakeetError):
                await register(empty.studio, "photos", payload)
    assert await empty.studio.datasets.table.count() == 1


async def test_a_deleted_dataset_lies_in_the_trash(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    await shelf.studio.datasets.lifecycle.delete(shelf.dataset)
    assert not shelf.folder.exists()
    with pytest.raises(NotFound):
        await shelf.studio.datasets.table.get(shelf.dataset.id)
    (trashed,) = shelf.studio.trash.list()
    shelf.studio.trash.restore(trashed.id)
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_a_users_folder_stays_when_its_dataset_goes(empty: Shelf, photos: Path) -> None:
    dataset = await register(empty.studio, "photos", "cats")
    await Shelf(empty.studio, dataset, photos / "cats").look()
    await empty.studio.datasets.lifecycle.delete(dataset)
    assert len(list((photos / "cats").iterdir())) == 5
    assert empty.studio.trash.list() == []


async def test_a_dataset_whose_folder_is_gone_can_be_deleted(shelf: Shelf, tmp_path: Path) -> None:
    shelf.folder.rename(tmp_path / "elsewhere")
    await shelf.studio.datasets.lifecycle.delete(shelf.dataset)
    assert await shelf.studio.datasets.table.count() == 0


async def test_a_dataset_that_was_changed_meanwhile_comes_back_from_the_trash(shelf: Shelf) -> None:
    await shelf.studio.datasets.table.rename(shelf.dataset, "another name")
    with pytest.raises(StateConflict):
        await shelf.studio.datasets.lifecycle.delete(shelf.dataset)
    assert shelf.folder.is_dir()
    assert shelf.studio.trash.list() == []


async def test_a_deleted_image_comes_back_with_its_caption(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    image = (await shelf.images())["chelsea.png"]
    await shelf.studio.datasets.lifecycle.delete_image(shelf.dataset, image)
    assert set(await shelf.images()) == {"astronaut.png", "coffee.png", "rocket.jpg"}
    assert shelf.files() == {}
    assert not (shelf.folder / "chelsea.png").exists()
    (trashed,) = shelf.studio.trash.list()
    shelf.studio.trash.restore(trashed.id)
    await shelf.look()
    assert (await shelf.images())["chelsea.png"].id == image.id
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}
    assert len(await shelf.edits()) == 1


async def test_an_image_whose_deletion_fails_is_still_there(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise DiskFull("The disk is full.")

    await shelf.put("chelsea.png", "a cat")
    image = (await shelf.images())["chelsea.png"]
    monkeypatch.setattr(images, "remove", refuse)
    with pytest.raises(DiskFull):
        await shelf.studio.datasets.lifecycle.delete_image(shelf.dataset, image)
    assert shelf.studio.trash.list() == []
    await shelf.look()
    assert (await shelf.caption("chelsea.png")).text == "a cat"
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_a_deletion_that_ends_in_a_crash_costs_no_caption(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caption's file is gone, and nothing else is known of that any more."""

    class Crash(BaseException):
        pass

    def crash(*arguments: Any) -> None:
        project(*arguments)
        raise Crash

    await shelf.put("chelsea.png", "a cat")
    image = (await shelf.images())["chelsea.png"]
    with monkeypatch.context() as patched:
        patched.setattr(captioning, "project", crash)
        with pytest.raises(Crash):
            await shelf.studio.datasets.captioning.withdraw(shelf.dataset, image.id)
    assert shelf.files() == {}
    await shelf.look()
    assert (await shelf.caption("chelsea.png")).text == "a cat"
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_a_deleted_image_leaves_the_caption_file_of_another_alone(shelf: Shelf) -> None:
    (shelf.folder / "rocket.jpg").rename(shelf.folder / "chelsea.jpg")
    (shelf.folder / "chelsea.txt").write_bytes(b"whose?")
    await shelf.look()
    image = (await shelf.images())["chelsea.jpg"]
    await shelf.studio.datasets.lifecycle.delete_image(shelf.dataset, image)
    assert shelf.files() == {"chelsea.txt": b"whose?"}
