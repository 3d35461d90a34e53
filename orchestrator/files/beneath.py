"""Folders of users, walked to part by part: no link is followed below the first, whoever puts one there when.

On POSIX a folder is held open and its files are reached through it. Windows has no such calls, and lets only
administrators make links; there a path is compared with where it really leads.
"""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

_FOLDER: Final = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)
_NEVER_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
#: Opening a FIFO must not wait for its other end.
READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NEVER_FOLLOW
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NEVER_FOLLOW
_BY_DESCRIPTOR: Final = sys.platform != "win32"


class Linked(OSError):
    """Raised where a part of a path is a link."""


class Folder:
    """An open folder; made by `opened_folder`. Names are of what lies directly in it, links are not followed.

    Every method raises OSError.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def stat(self, name: str) -> os.stat_result:
        """Of the file itself, be it a link."""
        path, within = self._at(name)
        return os.stat(path, dir_fd=within, follow_symlinks=False)

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor of the file. Raises Linked where it is a link."""
        path, within = self._at(name)
        try:
            return os.open(path, flags, mode, dir_fd=within)
        except OSError:
            self._check_unlinked(name)
            raise

    def replace(self, name: str, target: str) -> None:
        """Rename, over what is there."""
        (path, within), (to, _) = self._at(name), self._at(target)
        os.replace(path, to, src_dir_fd=within, dst_dir_fd=within)

    def link(self, name: str, target: str) -> None:
        """A second name for a file. Raises FileExistsError where `target` is taken."""
        (path, within), (to, _) = self._at(name), self._at(target)
        os.link(path, to, src_dir_fd=within, dst_dir_fd=within, follow_symlinks=False)

    def take(self, source: str, target: str) -> None:
        """A second name here for a file elsewhere. Raises FileExistsError where `target` is taken."""
        to, within = self._at(target)
        os.link(source, to, dst_dir_fd=within, follow_symlinks=False)

    def rename_new(self, name: str, target: str) -> bool:
        """Rename unless `target` is taken; whether it was done."""
        try:
            self.link(name, target)
        except FileExistsError:
            return False
        except OSError:
            # No hard links on this file system (FAT, some network shares): nearly as good.
            if self.has(target):
                return False
            self.replace(name, target)
        else:
            self.unlink(name)
        return True

    def has(self, name: str) -> bool:
        """Whether there is something of that name."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def unlink(self, name: str) -> None:
        """Remove the name of a file."""
        path, within = self._at(name)
        os.unlink(path, dir_fd=within)

    def entries(self) -> list[os.DirEntry[str]]:
        """What is in it. Their own `stat` looks into this folder, for as long as it is open."""
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as entries:
            return list(entries)

    def sync(self) -> None:
        """Bring its names to the disk; Windows does so by itself."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    @contextmanager
    def folder(self, name: str) -> Iterator["Folder"]:
        """A folder in it. Raises Linked where it is a link."""
        deeper = self._deeper(name)
        try:
            yield deeper
        finally:
            deeper.close()

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _deeper(self, name: str) -> "Folder":
        path = os.path.join(self.path, name)
        if not _BY_DESCRIPTOR:
            if os.path.normcase(os.path.realpath(path)) != os.path.normcase(path):
                raise Linked(f"{name} is a link")
            return Folder(path, None) if os.path.isdir(path) else _not_a_folder(path)
        return Folder(path, self.open(name, _FOLDER))

    def _at(self, name: str) -> tuple[str, int | None]:
        return (name, self._descriptor) if _BY_DESCRIPTOR else (os.path.join(self.path, name), None)

    def _check_unlinked(self, name: str) -> None:
        """The system says of a link sometimes that it loops, sometimes that it is no folder."""
        with suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISLNK(self.stat(name).st_mode):
                raise Linked(f"{name} is a link")


@contextmanager
def opened_folder(root: str, parts: Sequence[str] = ()) -> Iterator[Folder]:
    """The folder at `parts` below `root`, which is taken as it is. Raises Linked and other OSErrors."""
    here = Folder(root, os.open(root, os.O_RDONLY | os.O_DIRECTORY)) if _BY_DESCRIPTOR else Folder(root, None)
    try:
        for part in parts:
            deeper = here._deeper(part)
            here.close()
            here = deeper
        yield here
    finally:
        here.close()


def _not_a_folder(path: str) -> Folder:
    raise NotADirectoryError(path)
