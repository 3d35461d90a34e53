"""Datasets as they are kept: a name for a folder, ours or a user's own."""

import sqlite3
from typing import Final

import msgspec

from contract.errors import NotFound, StateConflict
from orchestrator.clock import now_ms
from orchestrator.store.database import Database

#: The root of the datasets whose folders are ours.
OWN_ROOT: Final = "datasets"
#: States of jobs that may still touch a dataset.
_AT_WORK: Final = ("queued", "starting", "running", "paused", "canceling")


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `path` is relative to `root`, empty for the root itself; `version` counts its changes.

    `managed`: the folder is ours, and goes where the dataset goes.
    """

    id: str
    name: str
    root: str
    path: str
    managed: bool
    version: int
    created_ms: int
    changed_ms: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many images a dataset has, how many of them have a caption or a problem, and how many of its
    caption files are still to be written."""

    images: int = 0
    captioned: int = 0
    problems: int = 0
    unwritten: int = 0


class DatasetTable:
    """The datasets of a studio; it knows rows only, and no folders."""

    def __init__(self, control: Database) -> None:
        self._control = control

    async def list(self, after: str, limit: int) -> list[Dataset]:
        """By age, from after the id `after` on."""
        query = "SELECT * FROM datasets WHERE id > ? ORDER BY id LIMIT ?"
        return await self._control.read(
            lambda db: [_dataset(row) for row in db.execute(query, (after, limit))]
        )

    async def count(self) -> int:
        """How many there are."""
        return await self._control.read(
            lambda db: int(db.execute("SELECT count(*) FROM datasets").fetchone()[0])
        )

    async def get(self, id: str) -> Dataset:
        """Raises NotFound."""
        found = await self._control.read(lambda db: find(db, id))
        if found is None:
            raise NotFound(f"There is no dataset {id}.", where=id)
        return found

    async def counts(self, id: str) -> Counts:
        """What there is to say of a dataset's images."""
        return await self._control.read(lambda db: _counts(db, id))

    async def add(self, dataset: Dataset) -> Dataset:
        """Keep a new one; the same id again changes nothing. Raises StateConflict where its folder is one."""

        def write(db: sqlite3.Connection) -> Dataset:
            if (made := find(db, dataset.id)) is not None:
                return made
            try:
                db.execute(_INSERT, msgspec.structs.asdict(dataset))
            except sqlite3.IntegrityError:
                raise StateConflict("This folder is a dataset already.", where=place_of(dataset)) from None
            return dataset

        return await self._control.write(write)

    async def rename(self, dataset: Dataset, name: str) -> Dataset:
        """Raises StateConflict where it was changed meanwhile."""
        renamed = msgspec.structs.replace(
            dataset, name=name, version=dataset.version + 1, changed_ms=now_ms()
        )

        def write(db: sqlite3.Connection) -> None:
            _check_same(db, dataset)
            values = (name, renamed.version, renamed.changed_ms, dataset.id)
            db.execute("UPDATE datasets SET name = ?, version = ?, changed_ms = ? WHERE id = ?", values)

        await self._control.write(write)
        return renamed

    async def check_idle(self, id: str) -> None:
        """Raises StateConflict while a job may still touch it."""
        await self._control.read(lambda db: _check_idle(db, id))

    async def forget(self, dataset: Dataset) -> None:
        """Remove the row and all that hangs on it. Raises StateConflict."""

        def write(db: sqlite3.Connection) -> None:
            _check_same(db, dataset)
            _check_idle(db, dataset.id)
            db.execute("DELETE FROM datasets WHERE id = ?", (dataset.id,))

        await self._control.write(write)


def new_dataset(id: str, name: str, root: str, path: str, *, managed: bool) -> Dataset:
    """One that is made now."""
    now = now_ms()
    return Dataset(
        id=id, name=name, root=root, path=path, managed=managed, version=1, created_ms=now, changed_ms=now
    )


def place_of(dataset: Dataset) -> str:
    """Where it lies, as clients say it."""
    return f"{dataset.root}:{dataset.path}"


def find(db: sqlite3.Connection, id: str) -> Dataset | None:
    """The dataset of an id."""
    row = db.execute("SELECT * FROM datasets WHERE id = ?", (id,)).fetchone()
    return None if row is None else _dataset(row)


def all_datasets(db: sqlite3.Connection) -> list[Dataset]:
    """Every one."""
    return [_dataset(row) for row in db.execute("SELECT * FROM datasets ORDER BY id")]


def _check_same(db: sqlite3.Connection, dataset: Dataset) -> None:
    now = find(db, dataset.id)
    if now is None or now.version != dataset.version:
        raise StateConflict("The dataset was changed meanwhile.", where=dataset.id)


def _check_idle(db: sqlite3.Connection, id: str) -> None:
    query = f"SELECT id FROM jobs WHERE dataset_id = ? AND state IN ({','.join('?' * len(_AT_WORK))})"
    row = db.execute(query, (id, *_AT_WORK)).fetchone()
    if row is not None:
        raise StateConflict(
            f"The job {row['id']} works on this dataset.", where=id, hint="Cancel it, or wait for its end."
        )


def _counts(db: sqlite3.Connection, id: str) -> Counts:
    return Counts(**{name: int(db.execute(query, (id,)).fetchone()[0]) for name, query in _COUNTS.items()})


def _dataset(row: sqlite3.Row) -> Dataset:
    return msgspec.convert(dict(row), Dataset, strict=False)


_INSERT: Final = (
    "INSERT INTO datasets VALUES (:id, :name, :root, :path, :managed, :version, :created_ms, :changed_ms)"
)
_COUNTS: Final = {
    "images": "SELECT count(*) FROM images WHERE dataset_id = ? AND removed_ms IS NULL",
    "captioned": (
        "SELECT count(*) FROM images i WHERE dataset_id = ? AND removed_ms IS NULL AND EXISTS"
        " (SELECT 1 FROM captions WHERE image_id = i.id AND text IS NOT NULL)"
    ),
    "problems": (
        "SELECT count(*) FROM images WHERE dataset_id = ? AND removed_ms IS NULL AND problem IS NOT NULL"
    ),
    "unwritten": (
        "SELECT count(*) FROM captions c JOIN images i ON i.id = c.image_id"
        " WHERE c.projected <> c.version AND i.dataset_id = ? AND i.removed_ms IS NULL"
    ),
}
