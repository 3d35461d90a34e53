"""Where the files of a run may lie: a link among pictures must not fetch what nobody has granted."""

import os
from collections.abc import Sequence
from typing import Final

from contract.errors import PathOutsideRoots
from contract.rules.paths import is_under, to_wire


class Bounds:
    """The folders that may be read from, real ones; None where everything may be. Threads may share it."""

    def __init__(self, roots: Sequence[str] | None = None) -> None:
        self._roots = roots
        self._folders: dict[str, str] = {}

    def check(self, path: str) -> None:
        """Raises PathOutsideRoots where `path` is outside once its links are followed; where they lead is not
        told."""
        if self._roots is None:
            return
        real = self._real(path)
        if not any(is_under(real, root) for root in self._roots):
            named = to_wire(path)
            raise PathOutsideRoots(
                f"`{named}` is a link to outside of the granted roots.",
                where=named,
                hint="Put the file itself there, or grant the folder that it is in.",
            )

    def _real(self, path: str) -> str:
        """With links followed; folders are remembered, since thousands of files lie in a few."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        inside = os.path.join(self._folders[folder], name)
        return os.path.realpath(inside) if os.path.islink(inside) else os.path.normpath(inside)


#: For whoever may read everything.
ANYWHERE: Final = Bounds()
