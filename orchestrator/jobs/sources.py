"""What jobs work on: a dataset, files or folders below the roots, models, also those of other programs."""

import os
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
from msgspec import Meta

from contract.base import Strict
from contract.errors import FileMissing, LorakeetError, NotFound
from contract.rules.paths import from_wire, to_wire
from contract.validation import Contradiction, Problem
from orchestrator.jobs import artifacts
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.table import get

if TYPE_CHECKING:
    from orchestrator.studio import Studio


class FileRef(Strict, frozen=True, kw_only=True):
    """A file or folder below a root."""

    root: str
    path: str


class CheckpointRef(Strict, frozen=True, kw_only=True):
    """A state that an earlier job has kept: an artifact of the role `checkpoint`, by its number."""

    job: str
    artifact: int


class JobSource(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """What a job works on: a dataset by its id, files, or folders; and what state it goes on from."""

    dataset: str | None = None
    files: Annotated[list[FileRef], Meta(min_length=1, max_length=100_000)] | None = None
    folders: Annotated[list[FileRef], Meta(min_length=1, max_length=1_000)] | None = None
    checkpoint: CheckpointRef | None = None

    def __post_init__(self) -> None:
        if len([each for each in (self.dataset, self.files, self.folders) if each is not None]) != 1:
            raise Contradiction(("dataset", "give exactly one of `dataset`, `files` and `folders`"))

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(name for name in ("dataset", "files", "folders") if getattr(self, name) is not None)


async def file_of(studio: "Studio", root: str, path: str) -> str:
    """Where a file is, as this system names it.

    A model is found by the root and path that it is listed with, also where that is a link. Raises
    InvalidParams, PathOutsideRoots, FileMissing and FileUnreadable.
    """
    if (model := await studio.models.at(root, path)) is not None:
        return model
    return str(await anyio.to_thread.run_sync(studio.roots.resolve, root, path))


def folder_of(studio: "Studio", root: str, path: str) -> str:
    """Where a folder is, as this system names it; the empty path is that of the root.

    Raises InvalidParams, PathOutsideRoots, FileMissing and FileUnreadable. Blocks.
    """
    found = studio.roots.resolve(root, path) if path else studio.roots.folder(root)
    if not found.is_dir():
        raise FileMissing("There is no folder of that name.", where=f"{root}:{path}")
    return str(found)


async def checkpoint_of(studio: "Studio", ref: CheckpointRef) -> str:
    """The folder of a checkpoint, as paths travel. Raises NotFound and FileMissing."""
    kept = await studio.control.read(lambda db: artifacts.get(db, ref.job, ref.artifact))
    where = f"{ref.job}/artifacts/{ref.artifact}"
    if not kept.is_state:
        raise NotFound(f"The artifact {ref.artifact} is no checkpoint.", where=where)
    if not kept.is_there:
        raise FileMissing("The checkpoint has given way to a newer one.", where=where)
    return to_wire(os.path.dirname(from_wire(kept.path)))


def shape_problems(kind: Kind, source: JobSource | None) -> Iterator[Problem]:
    """What is wrong with a source whatever there is."""
    if source is None:
        if kind.sources:
            yield Problem("$.source", "is required")
        return
    if source.kind not in kind.sources:
        takes = f"takes {' or '.join(kind.sources)}" if kind.sources else "takes no source"
        yield Problem(f"$.source.{source.kind}", f"`{kind.name}` {takes}")
    elif source.files is not None and kind.max_files is not None and len(source.files) > kind.max_files:
        yield Problem("$.source.files", f"`{kind.name}` takes {kind.max_files} at a time")
    if source.checkpoint is not None and not kind.takes_checkpoint:
        yield Problem("$.source.checkpoint", f"`{kind.name}` goes on from no checkpoint")


async def problems_there(
    studio: "Studio", kind: Kind, source: JobSource | None, paths: list[str], *, replaces: bool
) -> list[Problem]:
    """What of a source is not there; `paths` gets what its output may be named after, where that is little.

    `replaces`: the one file of the source is what the job changes.
    """
    if source is None:
        return []
    found = await _of_checkpoint(studio, kind, source.checkpoint)
    if source.dataset is not None:
        return found + await _of_dataset(studio, source.dataset, paths)
    if source.folders is not None:
        folders = source.folders
        return found + await anyio.to_thread.run_sync(lambda: list(_of_folders(studio, folders, paths)))
    files = source.files or []
    if kind.max_files is None:
        return found + await anyio.to_thread.run_sync(lambda: list(_of_files(studio, files)))
    looked = [await _of_model(studio, each, index, paths, replaces) for index, each in enumerate(files)]
    return found + [each for each in looked if each is not None]


async def _of_checkpoint(studio: "Studio", kind: Kind, ref: CheckpointRef | None) -> list[Problem]:
    if ref is None:
        return []
    try:
        await checkpoint_of(studio, ref)
        job = await studio.control.read(lambda db: get(db, ref.job))
    except LorakeetError as error:
        return [Problem("$.source.checkpoint", error.message)]
    wrong = f"is one of a job of the kind `{job.kind}`"
    return [] if job.kind == kind.name else [Problem("$.source.checkpoint", wrong)]


async def _of_dataset(studio: "Studio", id: str, paths: list[str]) -> list[Problem]:
    def read(db: sqlite3.Connection) -> sqlite3.Row | None:
        row: sqlite3.Row | None = db.execute("SELECT name FROM datasets WHERE id = ?", (id,)).fetchone()
        return row

    row = await studio.control.read(read)
    if row is None:
        return [Problem("$.source.dataset", "there is no such dataset")]
    paths.append(row["name"])
    return []


def _of_folders(studio: "Studio", folders: list[FileRef], paths: list[str]) -> Iterator[Problem]:
    for index, each in enumerate(folders):
        try:
            paths.append(to_wire(folder_of(studio, each.root, each.path)))
        except LorakeetError as error:
            yield Problem(f"$.source.folders[{index}]", error.message)


def _of_files(studio: "Studio", files: list[FileRef]) -> Iterator[Problem]:
    for index, file in enumerate(files):
        try:
            studio.roots.resolve(file.root, file.path)
        except LorakeetError as error:
            yield Problem(f"$.source.files[{index}]", error.message)


async def _of_model(
    studio: "Studio", file: FileRef, index: int, paths: list[str], replaces: bool
) -> Problem | None:
    """A model has to be there; one that is replaced has to be the studio's, and no link to elsewhere."""
    try:
        if replaces:
            resolved = await anyio.to_thread.run_sync(studio.roots.resolve, file.root, file.path)
            paths.append(to_wire(str(resolved)))
        else:
            paths.append(to_wire(await file_of(studio, file.root, file.path)))
    except LorakeetError as error:
        why = " To change a copy, name it with `output`." if replaces else ""
        return Problem(f"$.source.files[{index}]", error.message + why)
    return None
