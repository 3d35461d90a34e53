"""One place in a model where a module of an adapter can sit, with its name in each naming."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

Shape = tuple[int, ...]
#: Keys of weights and their shapes, as a header has them.
Weights = Mapping[str, Sequence[int]]
Rows = tuple[int, int]
Kind = Literal["attention", "feed_forward", "proj", "conv", "norm", "embedding", "time", "other"]

#: What adapters without convolutions train: every linear layer inside transformer blocks and around them.
LINEAR_KINDS: tuple[Kind, ...] = ("attention", "feed_forward", "proj")


class Place(NamedTuple):
    """A site below the prefixes of its component: dotted module names, None where a naming has none."""

    weight: str
    block: str
    kind: Kind
    shape: Shape
    kohya: str | None
    peft: str | None
    generic: str | None
    rows: Rows | None = None
    swapped: bool = False


class Site(msgspec.Struct, frozen=True, gc=False):
    """One place where an adapter's module can sit.

    `component` is unet (transformers too), te1, te2 or te3; `block` is its block there, BASE outside of them.
    `weight` is the key of the weight in a single-file checkpoint of the original layout, `rows` the first of
    its rows and the one after the last where several modules are fused in it, None where it is all of it.
    `swapped`: the two halves of the module's rows lie the other way round in the weight. `shape` is that of
    the module's own weight: (out, in), (out, in, height, width), or (n,) of a norm. `kohya`, `peft` (that of
    diffusers too) and `generic` are its module name in each naming; None where that naming has no module for
    exactly these rows, which `Sites.by_weight` then finds as several, or as one with more rows.
    """

    component: str
    block: str
    weight: str
    rows: Rows | None
    swapped: bool
    shape: Shape
    kohya: str | None
    peft: str | None
    generic: str | None
    kind: Kind

    @property
    def bias(self) -> str:
        """The key of its bias in the checkpoint, where there is one; `rows` and `swapped` hold for it too."""
        return f"{self.weight.removesuffix('weight')}bias"

    def name(self, naming: str) -> str | None:
        """Its module name in a naming: kohya, peft or generic."""
        names = {"kohya": self.kohya, "peft": self.peft, "generic": self.generic}
        return names[naming]
