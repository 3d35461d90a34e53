"""What is trained at one place of a model: two factors, in fp32 whatever the model is in."""

from typing import ClassVar

import torch
from torch import nn

from trainer.networks.dropout import Dropout
from trainer.networks.seeds import seed_of

#: Two numbers, as those of a convolution that has a height and a width.
Pair = tuple[int, int]


class LowRank(nn.Module):
    """ΔW = alpha ÷ rank · up · down (Hu et al., LoRA, arXiv:2106.09685); `name` is kohya's.

    `shape` is that of the weight that it changes, (out, in) or (out, in, kh, kw). `up` is (out, r), `down`
    (r, in), both with the dimensions of kernels behind where there are some. Computed in the type of what
    comes in, or in that of autocast.
    """

    #: The dimension of the ranks between the factors.
    rank_at: ClassVar[int]

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rank: int,
        alpha: float,
        device: torch.device | None = None,
        dropout: Dropout | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.shape = shape
        self.rank = rank
        self.alpha = alpha
        self._dropout = dropout
        ones = (1,) * len(shape[2:])
        self.down = nn.Parameter(torch.zeros(rank, *shape[1:], device=device, dtype=torch.float32))
        self.up = nn.Parameter(torch.zeros(shape[0], rank, *ones, device=device, dtype=torch.float32))

    @property
    def scale(self) -> float:
        """alpha ÷ rank."""
        return self.alpha / self.rank

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """`up` zero, so that nothing is changed yet; `down` uniform within 1 ÷ √in as torch begins its linear
        layers (Kaiming, a = √5). The numbers follow from `seed` and the name: they are the same on every
        device, and whatever other modules there are.
        """
        self.up.zero_()
        if self.down.is_meta:
            return
        bound = self.down[0].numel() ** -0.5
        source = torch.Generator().manual_seed(seed_of(seed, "init", self.name))
        drawn = torch.rand(self.down.shape, generator=source, dtype=torch.float32)
        self.down.copy_(drawn.mul_(2 * bound).sub_(bound))

    def forward(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """`out`, which the model's own module made of `x`, as the changed weight would have made it."""
        inner = self.into(x, self.down.to(x.dtype))
        if self._dropout is not None and self.training:
            inner = self._dropout(inner, self.rank_at)
        # The scale goes where there are the fewest numbers.
        delta = self.out_of(inner * self.scale, self.up.to(x.dtype))
        return out + delta.to(out.dtype)

    def into(self, x: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """`x` through the first factor."""
        raise NotImplementedError

    def out_of(self, inner: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """That through the second."""
        raise NotImplementedError
