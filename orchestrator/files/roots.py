"""Where clients may point: folders by a short id, and what lies below them by relative paths.

A root may itself be reached through links. Below it none is followed, no file of the data directory beside
its public folders can be named, and no name means anything but a file of that name.
"""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from contract.errors import (
    FileMissing,
    FileUnreadable,
    InvalidParams,
    LorakeetError,
    PathOutsideRoots,
    cut,
)
from contract.rules.paths import is_under, to_wire
from orchestrator.files.beneath import Linked, opened_folder
from orchestrator.files.durable import unwritten
from orchestrator.files.filenames import leads_out, path_problem
from orchestrator.settings import OWN_ROOTS, Root


class Roots:
    """The folders of the data directory that clients may name, and those of the settings."""

    def __init__(self, home: Path, listed: Callable[[], Sequence[Root]]) -> None:
        self._home: Final = home
        self._listed: Final = listed

    def ids(self) -> list[str]:
        """The ids of all roots, ours first."""
        return [*OWN_ROOTS, *(root.id for root in self._listed())]

    def folder(self, root_id: str) -> Path:
        """Where a root really lies. Raises InvalidParams for an unknown one, and FileMissing.

        One of ours is made where it is not there yet: DiskFull, FileUnwritable. Blocks.
        """
        if root_id in OWN_ROOTS:
            return self._own(root_id)
        found = next((root for root in self._listed() if root.id == root_id), None)
        if found is None:
            raise InvalidParams(
                f"There is no root `{cut(root_id)}`.",
                where=f"{root_id}:",
                hint=f"The roots are {', '.join(self.ids())}.",
            )
        real = os.path.realpath(found.folder)
        if not os.path.isdir(real):
            raise FileMissing(f"The folder of the root `{root_id}` is not there now.", where=f"{root_id}:")
        return Path(real)

    def resolve(self, root_id: str, relative: str, *, must_exist: bool = True) -> Path:
        """The absolute path of `relative`, whose parts stand between slashes, below a root.

        What is there is a file or a folder by itself, no link, at this moment. Blocks. Raises InvalidParams,
        PathOutsideRoots, FileMissing and FileUnreadable.
        """
        where = f"{root_id}:{relative}"
        root = self.folder(root_id)
        if problem := path_problem(relative):
            raise _refused(problem, relative, where)
        parts = relative.split("/")
        path = root.joinpath(*parts)
        if self._is_private(path):
            raise PathOutsideRoots("This lies in the studio's own files.", where=where)
        try:
            _check(str(root), parts)
        except Linked:
            raise PathOutsideRoots(
                "The path leads through a link.",
                where=where,
                hint="Add the folder that is meant to the folders in the settings.",
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            if must_exist:
                raise FileMissing("There is no file of that name.", where=where) from None
        except OSError as error:
            raise FileUnreadable(
                f"It cannot be read: {os.strerror(error.errno or 0)}.", where=where
            ) from None
        return path

    def grants(self, path: str) -> bool:
        """Whether an absolute path, its links followed, lies below a root."""
        real = os.path.realpath(path)
        return any(is_under(real, root) for root in self._there()) and not self._is_private(Path(real))

    def named(self, path: Path) -> tuple[str, str] | None:
        """The root and relative path of a real absolute path; None where it lies below no root."""
        for root_id in self.ids():
            try:
                relative = path.relative_to(self.folder(root_id))
            except (ValueError, LorakeetError):
                continue
            return root_id, relative.as_posix()
        return None

    def _own(self, root_id: str) -> Path:
        folder = self._home / root_id
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unwritten(error, folder) from error
        return Path(os.path.realpath(folder))

    def _there(self) -> list[str]:
        own = [os.path.realpath(self._home / name) for name in OWN_ROOTS]
        return own + [os.path.realpath(root.folder) for root in self._listed()]

    def _is_private(self, path: Path) -> bool:
        """Whether it is in the data directory, and in no root in there."""
        home = os.path.realpath(self._home)
        public = [each for each in self._there() if not is_under(home, each)]
        return is_under(str(path), home) and not any(is_under(str(path), each) for each in public)


def _check(root: str, parts: Sequence[str]) -> None:
    """Raises Linked and other OSErrors."""
    with opened_folder(root, parts[:-1]) as folder:
        if stat.S_ISLNK(folder.stat(parts[-1]).st_mode):
            raise Linked(parts[-1])


def _refused(problem: str, relative: str, where: str) -> LorakeetError:
    error = PathOutsideRoots if leads_out(relative) else InvalidParams
    return error(
        f"The path {problem}.",
        where=to_wire(cut(where)),
        hint="Name what is meant from its root on, such as `folder/photo.jpg`.",
    )
