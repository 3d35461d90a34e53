"""Datasets and their folders: made, registered where they lie, forgotten, and put into the trash."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from contract.errors import (
    FileUnreadable,
    LorakeetError,
    NotFound,
    PathOutsideRoots,
    StateConflict,
)
from contract.rules.paths import is_under, to_wire
from orchestrator.clock import now_ms
from orchestrator.datasets import images
from orchestrator.datasets.captioning import Captioning
from orchestrator.datasets.images import Image
from orchestrator.datasets.place import place_of
from orchestrator.datasets.table import OWN_ROOT, Dataset, DatasetTable, all_datasets, find, new_dataset
from orchestrator.files.durable import sync_folder, unwritten
from orchestrator.files.filenames import numbered, slug
from orchestrator.files.roots import Roots
from orchestrator.files.trash import Origin, Trash
from orchestrator.settings import OWN_ROOTS
from orchestrator.store.database import Database

#: Datasets of one name.
_MAX_NUMBER: Final = 10_000


class Lifecycle:
    """Made once a studio."""

    def __init__(
        self, control: Database, table: DatasetTable, roots: Roots, captioning: Captioning, trash: Trash
    ) -> None:
        self._control = control
        self._table = table
        self._roots = roots
        self._captioning = captioning
        self._trash = trash

    async def create(self, id: str, name: str) -> Dataset:
        """A dataset with an empty folder of ours; the same `id` again changes nothing.

        Raises DiskFull, FileUnwritable and StateConflict.
        """
        for number in range(1, _MAX_NUMBER):
            path = numbered(slug(name), number)
            taken = await self._control.read(lambda db: _paths(db))
            if (made := await self._control.read(lambda db: find(db, id))) is not None:
                return made
            folder = (await to_thread.run_sync(self._roots.folder, OWN_ROOT)) / path
            if path in taken or not await to_thread.run_sync(_make, folder):
                continue
            with suppress(StateConflict):
                return await self._table.add(new_dataset(id, name, OWN_ROOT, path, managed=True))
        raise StateConflict(f"There are too many datasets named {name}.", where=name)

    async def register(self, id: str, name: str, root: str, path: str) -> Dataset:
        """A user's own folder as a dataset; nothing in it is changed by that.

        Raises InvalidParams, PathOutsideRoots, FileMissing, FileUnreadable, and StateConflict where it is, is
        in or has in it a dataset already.
        """
        known = await self._control.read(all_datasets)
        if any(each.id == id for each in known):
            return await self._table.get(id)
        folder = await to_thread.run_sync(self._folder, root, path)
        await to_thread.run_sync(self._check_apart, folder, known)
        return await self._table.add(new_dataset(id, name, root, path, managed=False))

    async def delete(self, dataset: Dataset) -> None:
        """Forget a dataset; a folder of ours goes to the trash, a user's own is left as it is.

        Raises StateConflict while a job works on it, DiskFull and FileUnwritable.
        """
        await self._table.check_idle(dataset.id)
        with anyio.CancelScope(shield=True):
            trashed = await to_thread.run_sync(self._discard, dataset) if dataset.managed else None
            try:
                await self._table.forget(dataset)
            except LorakeetError:
                await to_thread.run_sync(self._bring_back, trashed)
                raise

    async def delete_image(self, dataset: Dataset, image: Image) -> None:
        """Put an image into the trash. Its captions stay in the journal, and come back with it.

        Raises DiskFull, FileUnwritable, StateConflict, and FileMissing where the dataset's root is gone.
        """
        place = await to_thread.run_sync(place_of, self._roots, dataset)
        origin = Origin(
            kind="image",
            name=image.path.rpartition("/")[2],
            root=dataset.root,
            path=f"{dataset.path}/{image.path}".lstrip("/"),
            root_folder=to_wire(place.root),
            at=to_wire(str(place.path(image.path))),
        )
        with anyio.CancelScope(shield=True):
            trashed = await to_thread.run_sync(self._put, origin)
            try:
                await self._captioning.withdraw(dataset, image.id)
                await self._control.write(lambda db: images.remove(db, [image.id], now_ms()))
            except LorakeetError:
                await to_thread.run_sync(self._bring_back, trashed)
                raise

    def _folder(self, root: str, path: str) -> Path:
        if path:
            folder = self._roots.resolve(root, path)
        elif root in OWN_ROOTS:
            raise PathOutsideRoots(
                "A folder of the studio itself is no dataset.", where=f"{root}:", hint="Name one in it."
            )
        else:
            folder = self._roots.folder(root)
        if not folder.is_dir():
            raise FileUnreadable("This is not a folder.", where=f"{root}:{path}")
        return folder

    def _check_apart(self, folder: Path, known: Sequence[Dataset]) -> None:
        for each in known:
            try:
                other = str(place_of(self._roots, each).folder)
            except LorakeetError:
                # Its root is not there now.
                continue
            if is_under(str(folder), other) or is_under(other, str(folder)):
                raise StateConflict(
                    f"This folder and that of the dataset {each.name} overlap.",
                    where=to_wire(str(folder)),
                    hint="Choose another folder, or delete that dataset; its files would stay.",
                )

    def _discard(self, dataset: Dataset) -> str | None:
        place = place_of(self._roots, dataset)
        origin = Origin(
            kind="dataset",
            name=dataset.name,
            root=dataset.root,
            path=dataset.path,
            root_folder=to_wire(place.root),
            at=to_wire(str(place.folder)),
        )
        return self._put(origin)

    def _put(self, origin: Origin) -> str | None:
        """What it is called in the trash; None where it was gone already, which is as good."""
        try:
            return self._trash.put(origin).id
        except NotFound:
            return None

    def _bring_back(self, trashed: str | None) -> None:
        if trashed is not None:
            self._trash.restore(trashed, durably=False)


def _make(folder: Path) -> bool:
    """Whether there is an empty folder now that nobody uses. Raises DiskFull and FileUnwritable."""
    try:
        folder.mkdir()
        sync_folder(folder.parent)
    except FileExistsError:
        # A try that was broken off leaves an empty one.
        return folder.is_dir() and not folder.is_symlink() and not os.listdir(folder)
    except OSError as error:
        raise unwritten(error, folder) from error
    return True


def _paths(db: sqlite3.Connection) -> set[str]:
    rows = db.execute("SELECT path FROM datasets WHERE root = ?", (OWN_ROOT,))
    return {row["path"] for row in rows}
