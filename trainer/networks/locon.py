"""LoRA of a convolution: one with few channels and the same kernel, and one of 1 × 1 behind it.

Source: LoCon (LyCORIS, arXiv:2309.14859).
"""

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from trainer.networks.low_rank import LowRank, Pair


class ConvLora(LowRank):
    """`x` is (b, in, h, w), what comes out (b, out, h', w'); it moves over `x` as `base` does."""

    rank_at: ClassVar[int] = 1

    def __init__(self, name: str, base: nn.Conv2d, **sizes: Any) -> None:
        super().__init__(name, tuple(base.weight.shape), **sizes)
        self._stride: Pair = _pair(base.stride)
        self._dilation: Pair = _pair(base.dilation)
        self._padding: Pair | str = base.padding if isinstance(base.padding, str) else _pair(base.padding)

    def into(self, x: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, down, stride=self._stride, padding=self._padding, dilation=self._dilation)

    def out_of(self, inner: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(inner, up)


def _pair(numbers: tuple[int, ...]) -> Pair:
    return numbers[0], numbers[1]
