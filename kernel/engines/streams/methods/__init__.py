"""The ways to merge checkpoints: one small object each, with its formula and where it comes from."""

from collections.abc import Mapping
from typing import Final

from kernel.engines.streams.methods.differences import (
    AddDifference,
    MultiplyDifference,
    SimilarityAdd,
    TrainDifference,
)
from kernel.engines.streams.methods.directions import CosineA, CosineB, Slerp
from kernel.engines.streams.methods.method import Arguments, Method, Piece
from kernel.engines.streams.methods.powers import Geometric, Maximum, Sigmoid, TensorSum
from kernel.engines.streams.methods.rebasin import Rebasin
from kernel.engines.streams.methods.smooth import SmoothAdd
from kernel.engines.streams.methods.sums import SumTwice, TripleSum, WeightedSum
from kernel.engines.streams.methods.task_vectors import Dare, Della, ModelStock, Ties

__all__ = ["METHODS", "Arguments", "Method", "Piece"]

_ALL: Final[tuple[type[Method], ...]] = (
    WeightedSum,
    AddDifference,
    SmoothAdd,
    MultiplyDifference,
    SimilarityAdd,
    TrainDifference,
    TripleSum,
    SumTwice,
    TensorSum,
    Geometric,
    Sigmoid,
    Maximum,
    CosineA,
    CosineB,
    Slerp,
    Ties,
    Dare,
    Della,
    ModelStock,
    Rebasin,
)

#: Every method of contract/rules/merge_methods.py by its name. A step makes an object of its own.
METHODS: Final[Mapping[str, type[Method]]] = {method.name: method for method in _ALL}
