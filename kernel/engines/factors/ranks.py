"""How many directions of a spectrum are kept: the rules of the reference trainer's resize tool.

S is the spectrum of up · down without alpha ÷ rank, by falling value, and len(S) = min(out, in), which is
more values than the rank where it is lower; those are zero. With k the number that a rule finds,

- `sv_ratio`: k = how many are larger than S₀ ÷ value;
- `sv_cumulative`: k = how many it takes for the share `value` of their sum;
- `sv_fro`: k = how many it takes for the share `value`² of the sum of their squares,

k is clamped to 1 … len(S) − 1, **one more is added**, and the result is capped by the rank asked for. A
module with S₀ ≤ 10⁻⁶ counts as zero and gets rank 1, whatever the rule. `fixed` is the rank asked for. Never
are more directions kept than there are.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Final

from contract.methods.resize import ResizeMethod

#: A largest singular value up to here is none.
ZERO: Final = 1e-6


class Spectrum:
    """The singular values of one module by falling value, and the running sums that the rules look at.

    `values` are those that can differ from zero, min(rank, out, in) of them; `full` is min(out, in).
    """

    def __init__(self, values: Sequence[float], full: int) -> None:
        self.values = values
        self.full = full

    @cached_property
    def sums(self) -> list[float]:
        """The sum of the first 1, 2, … values."""
        return list(accumulate(self.values))

    @cached_property
    def squares(self) -> list[float]:
        """The sum of the squares of the first 1, 2, … values."""
        return list(accumulate(value * value for value in self.values))

    @property
    def is_zero(self) -> bool:
        return not self.values or self.values[0] <= ZERO

    def sum_retained(self, rank: int) -> float:
        """The share of the sum of the values that the first `rank` have; 1 of a module of zeros."""
        return self.sums[rank - 1] / self.sums[-1] if self.sums[-1] > 0 else 1.0

    def fro_retained(self, rank: int) -> float:
        """The share of the Frobenius norm that the first `rank` directions have; 1 of a module of zeros."""
        kept, total = self.squares[rank - 1], self.squares[-1]
        return (kept / total) ** 0.5 if total > 0 else 1.0

    def lost(self, rank: int) -> float:
        """The sum of the squares behind the first `rank`, without cancellation."""
        return sum(value * value for value in reversed(self.values[rank:]))


def rank_of(spectrum: Spectrum, method: ResizeMethod, value: float | None, cap: int) -> int:
    """The rank of a module, at least 1. `value` is that of a dynamic method; `cap` is at least 1."""
    if spectrum.is_zero:
        return 1
    wanted = cap
    if method != "fixed":
        assert value is not None
        found = _RULES[method](spectrum, value)
        wanted = max(1, min(found, spectrum.full - 1)) + 1
    return min(wanted, cap, len(spectrum.values))


def _ratio(spectrum: Spectrum, value: float) -> int:
    least = spectrum.values[0] / value
    return sum(each > least for each in spectrum.values)


def _cumulative(spectrum: Spectrum, value: float) -> int:
    total = spectrum.sums[-1]
    return bisect_left(spectrum.sums, value, key=lambda each: each / total) + 1


def _fro(spectrum: Spectrum, value: float) -> int:
    total = spectrum.squares[-1]
    return bisect_left(spectrum.squares, value * value, key=lambda each: each / total) + 1


_RULES: Final[Mapping[str, Callable[[Spectrum, float], int]]] = {
    "sv_ratio": _ratio,
    "sv_cumulative": _cumulative,
    "sv_fro": _fro,
}
