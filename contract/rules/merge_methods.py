"""The ways to merge checkpoints, as far as both sides must know them: how many models each takes, which
parameters it reads, and which names of other programs are refused. The formulas stand in the kernel."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

Parameter = Literal["weights", "alpha", "beta", "density", "epsilon", "seed", "normalize"]


class MergeMethod(msgspec.Struct, frozen=True):
    """`least` and `most` count models (`most` None: any number); `reads` are the parameters it has."""

    name: str
    title: str
    least: int
    most: int | None
    reads: tuple[Parameter, ...]


_TABLE: Final = (
    MergeMethod("weighted_sum", "Weighted sum", 1, None, ("weights", "normalize")),
    MergeMethod("add_difference", "Add difference", 3, 3, ("alpha",)),
    MergeMethod("smooth_add", "Smooth add difference", 3, 3, ("alpha",)),
    MergeMethod("multiply_difference", "Multiply difference", 3, 3, ("alpha", "beta")),
    MergeMethod("similarity_add", "Similarity add difference", 3, 3, ("alpha", "beta")),
    MergeMethod("train_difference", "Train difference", 3, 3, ("alpha",)),
    MergeMethod("triple_sum", "Triple sum", 3, 3, ("alpha", "beta")),
    MergeMethod("sum_twice", "Sum twice", 3, 3, ("alpha", "beta")),
    MergeMethod("tensor_sum", "Tensor sum", 2, 2, ("alpha", "beta")),
    MergeMethod("geometric", "Geometric mean", 2, 2, ("alpha",)),
    MergeMethod("sigmoid", "Sigmoid", 2, 2, ("alpha",)),
    MergeMethod("max", "Maximum", 2, 2, ()),
    MergeMethod("cosine_a", "Cosine, structure of A", 2, 2, ("alpha",)),
    MergeMethod("cosine_b", "Cosine, structure of B", 2, 2, ("alpha",)),
    MergeMethod("slerp", "Spherical interpolation", 2, 2, ("alpha",)),
    MergeMethod("ties", "TIES", 2, None, ("weights", "density")),
    MergeMethod("dare", "DARE", 2, None, ("weights", "density", "seed")),
    MergeMethod("della", "DELLA", 2, None, ("weights", "density", "epsilon", "seed")),
    MergeMethod("model_stock", "Model stock", 3, None, ()),
    MergeMethod("rebasin", "Re-basin", 2, 2, ("alpha",)),
)

#: Every method by its name.
MERGE_METHODS: Final[Mapping[str, MergeMethod]] = {method.name: method for method in _TABLE}

#: Modes of other mergers that have no published definition, so that nobody could say what is right.
LEFT_OUT: Final = frozenset(
    ("ortho", "sprse", "norm", "chan", "freq", "swap", "clipxor", "xdare", "fwm", "noin", "rm")
)
#: Short names that people know from elsewhere.
SHORT_NAMES: Final[Mapping[str, str]] = {
    "ws": "weighted_sum",
    "ad": "add_difference",
    "sad": "smooth_add",
    "md": "multiply_difference",
    "sim": "similarity_add",
    "td": "train_difference",
    "trs": "triple_sum",
    "st": "sum_twice",
    "ts": "tensor_sum",
    "geo": "geometric",
    "sig": "sigmoid",
}


def method_problem(name: str) -> str | None:
    """What is wrong with the name of a method; None where it is one."""
    if name in MERGE_METHODS:
        return None
    if name.lower() in LEFT_OUT:
        return f"`{name}` has no published definition, so Lorakeet does not offer it"
    if (meant := SHORT_NAMES.get(name.lower())) is not None:
        return f"is written `{meant}`"
    return f"is none of {', '.join(MERGE_METHODS)}"


def count_problem(method: MergeMethod, count: int) -> str | None:
    """What is wrong with this many models; None where it fits."""
    if method.most == method.least != count:
        return f"`{method.name}` takes {method.least} models"
    if count < method.least:
        return f"`{method.name}` takes at least {method.least} models"
    return None
