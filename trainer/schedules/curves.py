"""How the learning rate goes on after the warm-up: the share of it at a share of the way to the end.

The names and shapes are those of `transformers.get_scheduler`, which people know; `end` is ours, the
share of the learning rate at the end.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec


class Curve(msgspec.Struct, frozen=True):
    """A share of the learning rate, 0 … 1, for `progress` 0 (end of the warm-up) … 1 (end of the run)."""

    def at(self, progress: float) -> float:
        """The share there; a pure function, so that a run can be resumed with another end."""
        raise NotImplementedError


class Constant(Curve, frozen=True):
    """1."""

    def at(self, progress: float) -> float:
        return 1.0


class Linear(Curve, frozen=True):
    """end + (1 − end)·(1 − p)."""

    end: float = 0.0

    def at(self, progress: float) -> float:
        return _between(self.end, 1 - progress)


class Cosine(Curve, frozen=True):
    """end + (1 − end)·½·(1 + cos(π·p)).

    Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5, with one cycle.
    """

    end: float = 0.0

    def at(self, progress: float) -> float:
        return _between(self.end, (1 + math.cos(math.pi * progress)) / 2)


class CosineWithRestarts(Curve, frozen=True):
    """`cycles` cosines of equal length one after the other: end + (1 − end)·½·(1 + cos(π·(cycles·p mod 1))).

    Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5.
    """

    cycles: int = 1
    end: float = 0.0

    def at(self, progress: float) -> float:
        # The end of the last cycle is its end, not the beginning of another.
        phase = 1.0 if progress >= 1 else self.cycles * progress % 1
        return _between(self.end, (1 + math.cos(math.pi * phase)) / 2)


class Polynomial(Curve, frozen=True):
    """end + (1 − end)·(1 − p)^power.

    Source: `polynomial` of transformers, whose `lr_end` is a learning rate (1e-7) and not a share of it.
    """

    power: float = 1.0
    end: float = 0.0

    def at(self, progress: float) -> float:
        return _between(self.end, (1 - progress) ** self.power)


def _between(end: float, share: float) -> float:
    return end + (1 - end) * share


#: Every curve by its name.
CURVES: Final[Mapping[str, type[Curve]]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "cosine_with_restarts": CosineWithRestarts,
    "polynomial": Polynomial,
}
