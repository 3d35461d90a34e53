"""What lies in a dataset's folder: its images by their names' endings, at any depth. Blocks.

Hidden files and folders are left out, links to folders are not followed. A link to a file counts if it stays
in the dataset.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from contract.errors import FileMissing, FileUnreadable, LorakeetError, PathOutsideRoots
from contract.rules.paths import IMAGE_SUFFIXES, is_under, to_wire
from orchestrator.datasets.names import kept
from orchestrator.datasets.place import Place
from orchestrator.files.beneath import Folder
from orchestrator.files.caption_files import is_leftover

#: Folders in folders; deeper ones are nobody's dataset, and each is held open.
MAX_DEPTH: Final = 32
#: Age of an unfinished caption file from which on nobody is writing it.
_LEFT_S: Final = 600


class FoundFile(NamedTuple):
    """An image file by its kept path, and why it is not to be read, if so."""

    path: str
    size_bytes: int
    mtime_ns: int
    problem: LorakeetError | None


class Found(NamedTuple):
    """What a walk came to. `locked` are folders, by their kept paths, that could not be read."""

    files: list[FoundFile]
    locked: list[str]


def walk(place: Place) -> Found:
    """Every image file of a dataset. Raises FileMissing and FileUnreadable for the dataset's own folder."""
    walker = _Walker(place)
    try:
        with place.opened() as folder:
            walker.walk(folder, "", 0)
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissing(
            "The dataset's folder is not there.",
            where=to_wire(str(place.folder)),
            hint="Is its disk connected? What is known of the dataset is kept.",
        ) from None
    except OSError as error:
        raise FileUnreadable(
            f"The dataset's folder cannot be read: {os.strerror(error.errno or 0)}.",
            where=to_wire(str(place.folder)),
        ) from None
    return walker.found


class _Walker:
    def __init__(self, place: Place) -> None:
        self._folder = str(place.folder)
        self._now = time.time()
        self.found = Found([], [])

    def walk(self, folder: Folder, prefix: str, depth: int) -> None:
        """Raises OSError where `folder` itself cannot be listed."""
        for entry in sorted(folder.entries(), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                self._clear(folder, entry)
            elif entry.is_dir(follow_symlinks=False):
                self._walk_inside(folder, entry.name, prefix, depth)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                self.found.files.extend(self._file(folder, entry, prefix))

    def _walk_inside(self, folder: Folder, name: str, prefix: str, depth: int) -> None:
        path = prefix + name
        try:
            if depth >= MAX_DEPTH:
                raise OSError(f"deeper than {MAX_DEPTH} folders")
            with folder.folder(name) as deeper:
                self.walk(deeper, f"{path}/", depth + 1)
        except OSError:
            self.found.locked.append(kept(path))

    def _file(self, folder: Folder, entry: os.DirEntry[str], prefix: str) -> Iterator[FoundFile]:
        # It may be gone by now.
        with suppress(FileNotFoundError):
            status = entry.stat(follow_symlinks=False)
            problem = None
            if stat.S_ISLNK(status.st_mode):
                problem = self._problem_of_link(folder, entry.name)
                status = status if problem else entry.stat()
            elif not stat.S_ISREG(status.st_mode):
                problem = FileUnreadable("It is no file.", where=to_wire(entry.name))
            yield FoundFile(kept(prefix + entry.name), status.st_size, status.st_mtime_ns, problem)

    def _problem_of_link(self, folder: Folder, name: str) -> LorakeetError | None:
        real = os.path.realpath(os.path.join(folder.path, name))
        if not is_under(real, self._folder):
            return PathOutsideRoots(
                f"{to_wire(name)} is a link that leads out of the dataset.",
                where=to_wire(name),
                hint="Copy the file into the folder.",
            )
        if not os.path.isfile(real):
            return FileMissing(f"{to_wire(name)} is a link to nothing.", where=to_wire(name))
        return None

    def _clear(self, folder: Folder, entry: os.DirEntry[str]) -> None:
        """Remove what a crash left of writing a caption."""
        if is_leftover(entry.name):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < self._now - _LEFT_S:
                    folder.unlink(entry.name)
