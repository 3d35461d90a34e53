"""What all modules of a resized adapter share: how they are written, and what the outcome says of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch

from contract.methods.resize import ResizedModule
from contract.methods.weights import AlphaRule
from kernel.engines.factors.alignment import Piece
from kernel.engines.factors.emission import Emission
from kernel.engines.factors.sources import Codes
from trainer.weights.adapter_keys import Role
from trainer.weights.adapter_output import ModuleOut, balance, scaling
from trainer.weights.dtypes import bytes_of, torch_dtype
from trainer.weights.tensor_writer import TensorSpec


class Aim(NamedTuple):
    """What a module is to become. `has_alpha`: whether its alpha is written even where it is the rank; `even`
    is the alpha of the rule of that name."""

    rank: int
    codes: Codes
    rule: AlphaRule
    has_alpha: bool
    even: float


class Remade(ABC):
    """A module of the output, made of `pieces` of the input.

    `up` has the singular values and, as the alpha rule has it, a part of the scale. In types of a narrow
    range, a direction that would leave it shares its size between `up` and `down`.
    """

    pieces: list[Piece]

    def __init__(self, name: str, shape: tuple[int, ...], scale: float, aim: Aim) -> None:
        """`scale` is that of the factors as they are in the input."""
        alpha, self.factor = scaling(
            aim.rule, scale, aim.rank, aim.codes.alpha, has_alpha=aim.has_alpha, even=aim.even
        )
        self.out = ModuleOut(name, shape, aim.rank, alpha, *aim.codes)

    @property
    @abstractmethod
    def square(self) -> float:
        """‖ΔW‖²; may be known only once it is written."""

    @property
    @abstractmethod
    def lost(self) -> float:
        """‖ΔW − the new ΔW‖²; may be known only once it is written."""

    @abstractmethod
    def said(self) -> ResizedModule:
        """What the outcome says of it, once it is written."""

    @property
    def alpha(self) -> float:
        """The alpha that programs read, the rank where none is written."""
        return float(self.out.rank) if self.out.alpha is None else self.out.alpha

    def emissions(self, key_of: Callable[[Role], str]) -> list[Emission]:
        """Its up, down and alpha, under the keys that they are to have."""
        up, down, *alpha = self.out.specs("kohya")
        up, down = up._replace(name=key_of("up")), down._replace(name=key_of("down"))
        emissions = [Emission(up, lambda: self._up(up)), Emission(down, lambda: self._down(down))]
        return emissions + [Emission(spec._replace(name=key_of("alpha")), self._alpha) for spec in alpha]

    @abstractmethod
    def _up(self, spec: TensorSpec) -> memoryview: ...

    @abstractmethod
    def _down(self, spec: TensorSpec) -> memoryview: ...

    def _alpha(self) -> memoryview:
        return bytes_of(torch.tensor(self.alpha, dtype=torch.float64).to(torch_dtype(self.out.alpha_type)))

    def _multipliers(self, sizes: torch.Tensor) -> torch.Tensor:
        """What the columns of `up` are multiplied with, whose norms are `sizes` (k,)."""
        return self._powers(sizes) * self.factor

    def _powers(self, sizes: torch.Tensor) -> torch.Tensor:
        """What moves from the rows of `down` into the columns of `up`: powers of two."""
        powers = balance(sizes * abs(self.factor), self.out.shape[0], self.out.up, self.out.down)
        return torch.ones_like(sizes) if powers is None else powers
