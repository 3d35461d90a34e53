"""The images of a folder, and where their captions go."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from contract.errors import CaptionCollision, FileMissing, FileUnreadable, NoImages, PathOutsideRoots
from contract.rules.paths import IMAGE_SUFFIXES, caption_path, is_under, to_wire


class Image(NamedTuple):
    """An image and its caption file; absolute paths, which may carry surrogates (PEP 383)."""

    path: str
    caption: str


def find_images(
    folder: str, *, recursive: bool, extension: str, locked: list[str] | None = None
) -> list[Image]:
    """Every image in `folder` by its name's ending, sorted by path; hidden files and folders are left out.

    Folders inside it that cannot be read are added to `locked`. Raises FileMissing, FileUnreadable, NoImages.
    """
    root = os.path.abspath(folder)
    if not os.path.exists(root):
        raise FileMissing(f"The folder {to_wire(root)} does not exist.", where=to_wire(root))
    try:
        found = sorted(_walk(root, recursive, [] if locked is None else locked))
    except NotADirectoryError:
        raise FileUnreadable(f"{to_wire(root)} is not a folder.", where=to_wire(root)) from None
    except OSError as error:
        raise FileUnreadable(f"The folder {to_wire(root)} cannot be read.", where=to_wire(root)) from error
    if not found:
        deeper = "" if recursive else " --recursive also looks into its folders."
        raise NoImages(
            f"The folder {to_wire(root)} has no images.",
            where=to_wire(root),
            hint=f"Images end in {' '.join(sorted(IMAGE_SUFFIXES))}.{deeper}",
        )
    return [Image(path, caption_path(path, extension)) for path in found]


def names_in(folder: str) -> list[str]:
    """What is in `folder`, by name; nothing where it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def collisions(images: Iterable[Image]) -> dict[str, CaptionCollision]:
    """By path, the images that would share a caption file with another one (`a.jpg` and `a.png`)."""
    sharing: dict[str, list[str]] = defaultdict(list)
    for image in images:
        sharing[os.path.normcase(image.caption)].append(image.path)
    return {path: _collision(path, paths) for paths in sharing.values() if len(paths) > 1 for path in paths}


def links_out(images: Iterable[Image], folder: str) -> dict[str, PathOutsideRoots]:
    """By path, the images that are links to files outside `folder`, which a kernel may not read."""
    root = os.path.realpath(folder)
    return {
        image.path: _outside(image.path)
        for image in images
        if os.path.islink(image.path) and not is_under(os.path.realpath(image.path), root)
    }


def _outside(path: str) -> PathOutsideRoots:
    return PathOutsideRoots(
        f"{to_wire(os.path.basename(path))} is a link that leads out of the folder.",
        where=to_wire(path),
        hint="Copy the file into the folder, or tag the folder where it lies.",
    )


def _walk(folder: str, recursive: bool, locked: list[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                # A link to a folder may lead back here for ever.
                if recursive and not entry.is_symlink():
                    yield from _walk_inside(entry.path, locked)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                yield entry.path


def _walk_inside(folder: str, locked: list[str]) -> Iterator[str]:
    try:
        yield from _walk(folder, True, locked)
    except OSError:
        locked.append(folder)


def _collision(path: str, paths: list[str]) -> CaptionCollision:
    names = ", ".join(to_wire(os.path.basename(each)) for each in paths)
    return CaptionCollision(
        f"{names} would share one caption file.", where=to_wire(path), hint="Rename all but one of them."
    )
