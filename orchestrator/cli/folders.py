"""Folders as people name them, and as the API does: by a root and a path below it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from contract.errors import FileMissing
from contract.rules.paths import from_wire, is_under, to_wire
from orchestrator.cli.api import JSON, Api
from orchestrator.models.layouts import MADE, OWN
from orchestrator.settings import OWN_ROOTS, ModelFolder


def folder_at(named: str) -> Path:
    """A folder that is there, its links followed. Raises FileMissing."""
    folder = Path(os.path.realpath(named))
    if not folder.is_dir():
        raise FileMissing(f"There is no folder {to_wire(named)}.", where=to_wire(named))
    return folder


async def place_of(studio: Api, home: Path, folder: Path) -> tuple[str, str] | None:
    """The root that a folder, its links followed, lies below, and its path there; None where none is."""
    settings = await studio.get("/settings")
    for root_id, root in _roots(home, settings):
        if is_under(str(folder), str(root)):
            return root_id, to_wire(folder.relative_to(root).as_posix()).removeprefix(".")
    return None


async def place_of_file(studio: Api, home: Path, file: Path) -> tuple[str, str] | None:
    """The root, or folder of models, that a file lies below, and its path there; None where none is.

    The links of its folder are followed, it may itself be one.
    """
    return _place_of_file(home, await studio.get("/settings"), file)


async def with_root(studio: Api, home: Path, folder: Path) -> tuple[str, str]:
    """The same; a folder outside of all roots becomes one itself."""
    if (found := await place_of(studio, home, folder)) is not None:
        return found
    settings, etag = await studio.read("/settings")
    root_id = _free_id(folder.name, [*OWN_ROOTS, *(each["id"] for each in settings["roots"])])
    roots = [*settings["roots"], {"id": root_id, "path": to_wire(str(folder))}]
    await studio.change("PATCH", "/settings", {"roots": roots}, etag)
    return root_id, ""


def _place_of_file(home: Path, settings: JSON, file: Path) -> tuple[str, str] | None:
    plain = Path(os.path.realpath(file.parent)) / file.name
    own = [(name, Path(os.path.realpath(home / name))) for name in (OWN, MADE)]
    theirs = [ModelFolder(path=each["path"]) for each in settings["model_folders"]]
    folders = [(each.id, Path(os.path.realpath(each.folder))) for each in theirs]
    for root_id, root in (*own, *_roots(home, settings), *folders):
        if is_under(str(plain), str(root)):
            return root_id, to_wire(plain.relative_to(root).as_posix())
    return None


def _roots(home: Path, settings: JSON) -> Iterator[tuple[str, Path]]:
    """The roots that datasets may lie in, the studio's own first."""
    yield "datasets", Path(os.path.realpath(home / "datasets"))
    for each in settings["roots"]:
        yield each["id"], Path(os.path.realpath(from_wire(each["path"])))


def _free_id(name: str, taken: list[str]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "folder"
    numbered = (slug if number == 1 else f"{slug}-{number}" for number in range(1, len(taken) + 2))
    return next(each for each in numbered if each not in taken)
