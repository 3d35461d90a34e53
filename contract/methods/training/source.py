"""`[source]` and `[output]` of a training in a file: where the pictures are, and where the LoRA goes."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction

_ENDING = ".safetensors"


class TrainSource(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """Where the pictures are: a dataset of the studio, or folders."""

    dataset: Annotated[str, field("Dataset", "Its name or id in the studio.", min_length=1)] | None = None
    folders: Annotated[
        list[str],
        field("Folders", "Paths of folders with pictures, or with folders of pictures such as `10_cat`."),
    ] = []

    def __post_init__(self) -> None:
        if (self.dataset is None) == (not self.folders):
            raise Contradiction(("dataset", "give exactly one of `dataset` and `folders`"))


class TrainTarget(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """Where the LoRA goes, and what it is called."""

    name: Annotated[str, field("Name", "Of the LoRA; its files begin with it.", min_length=1, max_length=128)]
    folder: (
        Annotated[str, field("Folder", "Path of the folder for it. Left out: that for outputs.")] | None
    ) = None
    overwrite: Annotated[bool, field("Overwrite", "Replace a file of this name.", detail="advanced")] = False

    def __post_init__(self) -> None:
        if any(each in self.name for each in '/\\:*?"<>|') or not self.name.strip(". "):
            raise Contradiction(("name", "is no name for a file"))
        if self.name.lower().endswith(_ENDING):
            raise Contradiction(("name", f"is written without `{_ENDING}`"))
