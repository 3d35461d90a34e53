"""The directories a host has granted. A path counts where its links lead, not where it is written."""

import os
from collections.abc import Sequence

from contract.errors import PathError, PathOutsideRoots
from contract.rules import paths


class Roots:
    """An unchanging set of granted directories; a job keeps the set it started with."""

    def __init__(self, granted: Sequence[str], *, where: str = "$.params.roots") -> None:
        """Raises PathNotAbsolute, naming the root by its place."""
        self.paths = [_plain(each, f"{where}[{index}]") for index, each in enumerate(granted)]
        self._folders: dict[str, str] = {}

    def afresh(self) -> "Roots":
        """The same roots for another job, which looks for itself where links lead by then."""
        roots = Roots([])
        roots.paths = self.paths
        return roots

    def resolve(self, text: str, where: str) -> str:
        """The real path of what `text` names on the wire; the file itself need not exist.

        Raises PathNotAbsolute and PathOutsideRoots, with `where`.
        """
        try:
            path = paths.from_wire(text)
            paths.check_plain(path)
        except PathError as error:
            error.where = where
            raise
        real = self._real(path)
        if not any(paths.is_under(real, root) for root in self.paths):
            raise PathOutsideRoots(
                f"`{text}` lies outside the granted roots.",
                where=where,
                hint="Grant its folder with `roots/set`, or choose a file inside the roots.",
            )
        return real

    def _real(self, path: str) -> str:
        """`path` with links followed; folders are remembered, as jobs name thousands of files in a few."""
        head, tail = os.path.split(path)
        if head not in self._folders:
            self._folders[head] = os.path.realpath(head)
        inside = os.path.join(self._folders[head], tail)
        return os.path.realpath(inside) if os.path.islink(inside) else os.path.normpath(inside)


def _plain(text: str, where: str) -> str:
    try:
        path = paths.from_wire(text)
        paths.check_plain(path)
    except PathError as error:
        error.where = where
        raise
    return os.path.realpath(path)
