"""LoRA of a linear layer."""

from typing import ClassVar

import torch
from torch.nn import functional

from trainer.networks.low_rank import LowRank


class LinearLora(LowRank):
    """`x` is (b, …, in), what comes out (b, …, out)."""

    rank_at: ClassVar[int] = -1

    def into(self, x: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, down)

    def out_of(self, inner: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return functional.linear(inner, up)
