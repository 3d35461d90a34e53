"""Files of users, opened once and never looked up a second time.

A path may lead through links as long as it ends below its root. It is then walked part by part from the root,
and a link that meanwhile took the place of a part is not followed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import NamedTuple

from contract.errors import FileMissing, FileUnreadable, ImageEmpty, PathOutsideRoots
from contract.rules.paths import check_plain, is_under, to_wire
from orchestrator.files.beneath import READ, opened_folder


class Source(NamedTuple):
    """An open file of a user: where it is, and what was true of it when it was opened."""

    path: str
    file: BufferedReader
    size_bytes: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """Its own name, quoted and printable: names may hold newlines, or bytes that are no UTF-8."""
        return repr(os.path.basename(self.path))

    @property
    def where(self) -> str:
        return to_wire(self.path)

    def sha256(self) -> str:
        """Of the content, lower-case hex. Raises FileUnreadable, also when the file changed meanwhile."""
        import hashlib

        self.file.seek(0)
        with self.reading():
            digest = hashlib.file_digest(self.file, "sha256").hexdigest()
        self.check_unchanged()
        return digest

    def check_unchanged(self) -> None:
        """Raises FileUnreadable if somebody wrote to the file since it was opened."""
        status = os.fstat(self.file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            raise self.changed()

    def changed(self) -> FileUnreadable:
        return FileUnreadable(
            f"{self.name} changed while it was read.",
            where=self.where,
            hint="Try again once it is written.",
            details={"reason": "changed"},
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turns what the disk says into FileUnreadable."""
        try:
            yield
        except OSError as error:
            raise FileUnreadable(f"{self.name} cannot be read to its end.", where=self.where) from error


@contextmanager
def opened(path: str, root: str) -> Iterator[Source]:
    """The regular file at `path`, an absolute path.

    Raises PathNotAbsolute, PathOutsideRoots, FileMissing, FileUnreadable, and ImageEmpty.
    """
    check_plain(path)
    fd = _descriptor(path, root)
    try:
        status = os.fstat(fd)
        _check_regular(status, path)
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield Source(path, file, status.st_size, status.st_mtime_ns)
    finally:
        os.close(fd)


def _check_regular(status: os.stat_result, path: str) -> None:
    name, where = repr(os.path.basename(path)), to_wire(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileUnreadable(f"{name} is not a file.", where=where)
    if not status.st_size:
        raise ImageEmpty(f"{name} is empty.", where=where, hint="Copy or download it again.")


def _descriptor(path: str, root: str) -> int:
    name, where = repr(os.path.basename(path)), to_wire(path)
    try:
        return _open_below(os.path.realpath(path), os.path.realpath(root))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissing(f"{name} does not exist.", where=where) from error
    except _Outside as error:
        raise PathOutsideRoots(
            f"{name} lies outside its folder.", where=where, hint="Copy the file into the folder."
        ) from error
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"{name} cannot be read.", where=where) from error


class _Outside(Exception):
    """Raised when a path does not lie below its root."""


def _open_below(path: str, root: str) -> int:
    """Both with their links followed."""
    if not is_under(path, root):
        raise _Outside
    *folders, last = os.path.relpath(path, root).split(os.sep)
    with opened_folder(root, folders) as folder:
        return folder.open(last, READ)
