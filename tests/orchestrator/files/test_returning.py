"""What was on its way to the trash when a studio died."""

from pathlib import Path

import pytest

from orchestrator.datasets import images
from orchestrator.files.returning import bring_back
from tests.orchestrator.datasets.shelf import Shelf, copy_photographs, open_shelf

pytestmark = pytest.mark.anyio


async def _discarded(shelf: Shelf) -> None:
    """The dataset's folder is in the trash, and the dataset is still listed."""
    copy_photographs(shelf.folder, ["chelsea.png"])
    await shelf.look()
    await shelf.put("chelsea.png", "a cat")
    assert shelf.studio.datasets.lifecycle._discard(shelf.dataset) is not None
    assert not shelf.folder.exists()


async def test_a_dataset_that_is_still_listed_comes_back(tmp_path: Path) -> None:
    async with open_shelf(tmp_path) as shelf:
        await _discarded(shelf)
        await bring_back(shelf.studio.control, shelf.studio.trash)
        assert shelf.studio.trash.list() == []
        assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_an_image_that_is_still_listed_comes_back(tmp_path: Path) -> None:
    async with open_shelf(tmp_path) as shelf:
        copy_photographs(shelf.folder, ["chelsea.png"])
        await shelf.look()
        image = (await shelf.images())["chelsea.png"]
        await shelf.studio.datasets.lifecycle.delete_image(shelf.dataset, image)
        await shelf.studio.control.write(lambda db: images.put(db, [image]))
        await bring_back(shelf.studio.control, shelf.studio.trash)
        assert (shelf.folder / "chelsea.png").is_file()


async def test_what_is_listed_no_more_stays_in_the_trash(tmp_path: Path) -> None:
    async with open_shelf(tmp_path) as shelf:
        await shelf.studio.datasets.lifecycle.delete(shelf.dataset)
        await bring_back(shelf.studio.control, shelf.studio.trash)
        assert len(shelf.studio.trash.list()) == 1


async def test_a_place_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    async with open_shelf(tmp_path) as shelf:
        await _discarded(shelf)
        copy_photographs(shelf.folder, ["coffee.png"])
        await bring_back(shelf.studio.control, shelf.studio.trash)
        assert len(shelf.studio.trash.list()) == 1
        assert {each.name for each in shelf.folder.iterdir()} == {"coffee.png"}
