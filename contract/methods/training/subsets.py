"""`[[subsets]]`: folders of pictures, how often each is seen, and what is different about it."""

from typing import Annotated, Final

import msgspec

from contract.base import Strict
from contract.fields import field
from contract.methods.training.captions import Captions
from contract.methods.training.data import TrainData
from contract.validation import Contradiction

#: Fields of a subset that take the place of the caption settings of the same names.
_OF_CAPTIONS: Final = ("shuffle", "keep_tokens", "tag_dropout", "caption_dropout", "prefix", "suffix")
_AS_IN_DATA: Final = "Left out: as in `data`."


class Subset(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A folder of the source. What is left out is as its name or `data` says.

    Its name is the path of the folder from the source on, or the name of the source's folder itself for
    pictures that lie directly in it. It has the pictures below it too, apart from those of other subsets.
    """

    name: Annotated[
        str,
        field("Folder", "Of the source, such as `10_cat` or `styles/ink`.", min_length=1),
    ]
    repeats: (
        Annotated[
            int,
            field(
                "Repeats",
                "How often each picture is seen in an epoch. Left out: the number that the name begins with, "
                "as in `10_cat`, or 1.",
                ge=1,
                le=100_000,
            ),
        ]
        | None
    ) = None
    class_tokens: (
        Annotated[
            str,
            field(
                "Class tokens",
                "The caption of pictures that have none. Left out: what follows the number in a name such as "
                "`10_cat`.",
            ),
        ]
        | None
    ) = None
    shuffle: Annotated[bool, field("Shuffle tags", _AS_IN_DATA, detail="advanced")] | None = None
    keep_tokens: (
        Annotated[int, field("Keep first tags", _AS_IN_DATA, unit="tags", detail="advanced", ge=0, le=1000)]
        | None
    ) = None
    tag_dropout: Annotated[float, field("Tag dropout", _AS_IN_DATA, detail="advanced", ge=0, le=1)] | None = (
        None
    )
    caption_dropout: (
        Annotated[float, field("Caption dropout", _AS_IN_DATA, detail="advanced", ge=0, le=1)] | None
    ) = None
    prefix: Annotated[str, field("Prefix", _AS_IN_DATA, detail="advanced")] | None = None
    suffix: Annotated[str, field("Suffix", _AS_IN_DATA, detail="advanced")] | None = None
    flip: Annotated[bool, field("Flip", _AS_IN_DATA, detail="advanced")] | None = None
    random_crop: Annotated[bool, field("Random crop", _AS_IN_DATA, detail="advanced")] | None = None

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        if "\\" in self.name or self.name[1:2] == ":":
            raise Contradiction(("name", "is written with `/`, from the source on"))
        if "" in parts or "." in parts or ".." in parts:
            raise Contradiction(("name", "is no path from the source on"))

    def captions(self, of_all: Captions) -> Captions:
        """`data.captions` with what this subset says instead."""
        own = {name: value for name in _OF_CAPTIONS if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(of_all, **own)

    def flips(self, data: TrainData) -> bool:
        """Whether its pictures are mirrored by chance."""
        return data.flip if self.flip is None else self.flip

    def crops_randomly(self, data: TrainData) -> bool:
        """Whether its pictures are cropped at another place in each epoch."""
        return data.random_crop if self.random_crop is None else self.random_crop
