"""Where a dataset lies, as a folder to walk into and as paths for workers and kernels."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from orchestrator.datasets.names import parts_of
from orchestrator.datasets.table import Dataset
from orchestrator.files.beneath import Folder, opened_folder
from orchestrator.files.roots import Roots


class Place(NamedTuple):
    """`parts` below the folder of a root, `root`, whose links are followed already."""

    root: str
    parts: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The dataset's folder."""
        return Path(self.root, *self.parts)

    def path(self, kept: str) -> Path:
        """Of a file of the dataset, by its kept path."""
        return self.folder.joinpath(*parts_of(kept))

    def opened(self, parts: Sequence[str] = ()) -> AbstractContextManager[Folder]:
        """A folder in it. Raises OSError, where a link is on the way, too."""
        return opened_folder(self.root, (*self.parts, *parts))


def place_of(roots: Roots, dataset: Dataset) -> Place:
    """Raises FileMissing and InvalidParams where its root is not there any more. Blocks."""
    return Place(str(roots.folder(dataset.root)), tuple(dataset.path.split("/")) if dataset.path else ())
