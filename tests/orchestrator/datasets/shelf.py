"""A studio with a dataset of photographs, and short ways to look at what has become of it."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import skimage

from orchestrator.datasets.captions import Caption, Key
from orchestrator.datasets.images import Image, all_images
from orchestrator.datasets.index import Indexed
from orchestrator.datasets.journal import Edit, Entry, edits, entries
from orchestrator.datasets.names import CaptionKind
from orchestrator.datasets.table import Dataset
from orchestrator.ids import new_id
from orchestrator.studio import Studio, open_studio

SHIPPED = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


class Shelf(NamedTuple):
    """One dataset of a studio, and its folder."""

    studio: Studio
    dataset: Dataset
    folder: Path

    async def look(self) -> Indexed:
        """Bring what is known in line with the folder."""
        return await self.studio.datasets.index.refresh(self.dataset, lambda *_: None)

    async def images(self) -> dict[str, Image]:
        """The images that are there, by path."""
        known = await self.studio.control.read(lambda db: all_images(db, self.dataset.id))
        return {each.path: each for each in known if each.removed_ms is None}

    async def caption(self, path: str, kind: CaptionKind = "tags") -> Caption:
        """As the journal has it."""
        id = (await self.images())[path].id
        return (await self.studio.datasets.captioning.read([id]))[Key(id, kind)]

    async def texts(self) -> dict[str, str | None]:
        """What the journal says of each image's tags."""
        return {path: (await self.caption(path)).text for path in await self.images()}

    async def put(self, path: str, text: str | None, kind: CaptionKind = "tags") -> Caption:
        """Write a caption as a user does."""
        id = (await self.images())[path].id
        edit = Edit(id=new_id("edit"), dataset_id=self.dataset.id, action="edit", author="user")
        captioning = self.studio.datasets.captioning
        return await captioning.put(self.dataset, edit, Key(id, kind), text, lambda now: None)

    async def edits(self) -> list[Edit]:
        """The history, the newest first."""
        return await self.studio.control.read(lambda db: edits(db, self.dataset.id, 2**62, 1_000))

    async def entries(self, edit: Edit) -> list[Entry]:
        """What an edit changed."""
        return await self.studio.control.read(lambda db: entries(db, edit.id, 0, 1_000))

    async def revert(self, edit: Edit) -> list[str]:
        """Undo an edit; the ids of the images whose captions were kept."""
        undo = Edit(
            id=new_id("edit"), dataset_id=self.dataset.id, action="revert", author="user", reverts=edit.id
        )
        return [
            key.image_id for key in (await self.studio.datasets.captioning.revert(self.dataset, undo)).kept
        ]

    def files(self) -> dict[str, bytes]:
        """Every caption file, by name."""
        found = (*self.folder.rglob("*.txt"), *self.folder.rglob("*.caption"))
        return {each.relative_to(self.folder).as_posix(): each.read_bytes() for each in found}

    def leftovers(self) -> list[str]:
        """Hidden files, of which there should be none."""
        return [each.name for each in self.folder.rglob(".*")]


def copy_photographs(folder: Path, names: Sequence[str] = PHOTOGRAPHS) -> None:
    """Some of what scikit-image ships."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(SHIPPED / name, folder / name)


@asynccontextmanager
async def open_shelf(home: Path) -> AsyncIterator[Shelf]:
    """A studio in which no job runs, with one dataset of no images."""
    async with open_studio(home, devices=(), run=False) as studio:
        known = await studio.datasets.table.list("", 1)
        dataset = known[0] if known else await studio.datasets.lifecycle.create(new_id("ds"), "Shelf")
        yield Shelf(studio, dataset, home / "datasets" / dataset.path)
