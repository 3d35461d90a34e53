"""Finding models in folders. Links to files are followed, links to folders not: they may lead anywhere."""

import os
import stat
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from orchestrator.models.facts import FORMATS
from orchestrator.models.layouts import Place

#: What makes a folder a tagger's.
TAGGER_FILES: Final = ("model.onnx", "selected_tags.csv")
TAGGER_FORMAT: Final = "onnx"
#: The coarsest clock of a disk, that of FAT.
_TICK_NS: Final = 2_000_000_000
#: No time that a disk says.
_GONE: Final = -1
_UNSETTLED: Final = -2


class Found(NamedTuple):
    """A file with a model, or a tagger's folder. `relative` is told from the place, with slashes.

    `stamp` changes whenever the content does; None for a link that leads nowhere.
    """

    place: Place
    relative: str
    path: str
    format: str
    size_bytes: int
    modified_ns: int
    is_link: bool
    stamp: tuple[int, ...] | None


class Walk:
    """One look through several places; a folder that is in two of them belongs to the first.

    `watched` gets every folder seen, with the time of its last change by `changed_ns`: as long as these stay,
    so do the names in them.
    """

    def __init__(self) -> None:
        self.watched: dict[str, int] = {}
        self._seen: set[tuple[int, int]] = set()

    def find(self, place: Place) -> Iterator[Found]:
        """Every model in a place, in no order; folders that cannot be read are passed over."""
        waiting = [("", place.folder)]
        while waiting:
            relative, folder = waiting.pop()
            found = self._entries(folder)
            if relative and {entry.name for entry in found}.issuperset(TAGGER_FILES):
                yield from _tagger(place, relative, folder)
                continue
            for entry in found:
                below = f"{relative}/{entry.name}" if relative else entry.name
                if _is_folder(entry):
                    waiting.append((below, entry.path))
                else:
                    yield from _file(place, below, entry)

    def _entries(self, folder: str) -> "list[os.DirEntry[str]]":
        try:
            at = os.stat(folder)
            self.watched[folder] = _settled(at.st_mtime_ns)
            if (at.st_dev, at.st_ino) in self._seen:
                return []
            self._seen.add((at.st_dev, at.st_ino))
            with os.scandir(folder) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            self.watched.setdefault(folder, _GONE)
            return []


def changed_ns(path: str) -> int:
    """When a file or folder was changed last."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return _GONE


def _settled(modified_ns: int) -> int:
    """A time to rely on: within one tick of a disk's clock, two changes look like one."""
    return modified_ns if time.time_ns() - modified_ns > _TICK_NS else _UNSETTLED


def _file(place: Place, relative: str, entry: "os.DirEntry[str]") -> Iterator[Found]:
    format = FORMATS.get(os.path.splitext(entry.name)[1].lower())
    if format is None:
        return
    is_link = entry.is_symlink()
    try:
        at = os.stat(entry.path)
    except OSError:
        if is_link:
            yield Found(place, relative, entry.path, format, 0, 0, is_link, None)
        return
    if stat.S_ISREG(at.st_mode):
        stamp = (at.st_size, at.st_mtime_ns, at.st_ino)
        yield Found(place, relative, entry.path, format, at.st_size, at.st_mtime_ns, is_link, stamp)


def _tagger(place: Place, relative: str, folder: str) -> Iterator[Found]:
    paths = [os.path.join(folder, name) for name in TAGGER_FILES]
    try:
        at = [os.stat(path) for path in paths]
    except OSError:
        return
    newest = max(each.st_mtime_ns for each in at)
    size = sum(each.st_size for each in at)
    is_link = any(map(os.path.islink, paths))
    yield Found(place, relative, folder, TAGGER_FORMAT, size, newest, is_link, (size, newest))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
