"""Weights whose numbers say which key and row they are, to see where a converter puts them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from trainer.weights.names.site import Shape

#: Rows of one key lie below the next multiple of this.
_STRIDE = 1_000_000


class Found(NamedTuple):
    """What a converted tensor is made of: the key of the original, and its rows in their order."""

    key: str
    rows: list[int]


class Marked(dict[str, torch.Tensor]):
    """A checkpoint to convert. Norms and biases that a converter wants beside the weights are made up."""

    def __init__(self, weights: Mapping[str, Shape]) -> None:
        super().__init__()
        self.keys_by_number = dict(enumerate(weights))
        for number, (key, shape) in enumerate(weights.items()):
            marks = torch.arange(shape[0], dtype=torch.int64) + number * _STRIDE
            self[key] = marks.reshape(-1, *[1] * (len(shape) - 1))
            self[f"{key.removesuffix('weight')}bias"] = torch.full((shape[0],), -1)

    def pop(self, key: str, *_: Any) -> torch.Tensor:
        """As a dictionary, or something that fits where the key is not there."""
        return super().pop(key, torch.full((6, 1), -1))

    def of(self, converted: torch.Tensor) -> Found | None:
        """Where the rows of a converted tensor come from; None where they are made up."""
        flat = converted.reshape(converted.shape[0], -1)[:, 0]
        if int(flat[0]) < 0:
            return None
        number = int(flat[0]) // _STRIDE
        return Found(self.keys_by_number[number], (flat - number * _STRIDE).tolist())


def rows_of(rows: tuple[int, int] | None, swapped: bool, total: int) -> list[int]:
    """The rows of a weight that a site says it has, in the order of its module."""
    start, end = rows or (0, total)
    half = (start + end) // 2
    return [*range(half, end), *range(start, half)] if swapped else list(range(start, end))
