"""What a merge method is: numbers in, numbers out, knowing nothing of files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import torch

from contract.rules.merge_methods import Parameter


class Arguments(NamedTuple):
    """The parameters of a method for one tensor, after block weights; `weights` has one for each input."""

    weights: tuple[float, ...] = ()
    alpha: float = 0.5
    beta: float = 0.5
    density: float = 0.5
    epsilon: float = 0.1
    seed: int = 0


class Piece(NamedTuple):
    """Which part of which tensor is being computed: the numbers from `start` on, in row-major order.

    `check` raises where the job is to stop. `whole(input, name)` reads any tensor of an input, fp32 [shape];
    `shapes` are those of all tensors of the first input. `facts` are what the method's look at it found.
    """

    name: str
    shape: tuple[int, ...]
    start: int = 0
    check: Callable[[], None] = lambda: None
    whole: Callable[[int, str], torch.Tensor] | None = None
    shapes: Mapping[str, tuple[int, ...]] = {}
    facts: Any = None


#: Reads a tensor of all inputs from its beginning to its end: for each piece fp32 [n] of each input, which
#: stay as they are until the next piece.
Read = Callable[[], Iterator[Sequence[torch.Tensor]]]


class Method:
    """A way to put tensors together; one object for each step. A model that is merged with itself stays
    itself to the last bit with every method, but for a weighted sum whose weights do not add up to 1.

    One that needs only numbers at the same place implements `combine`, and is called with pieces that fit a
    cache. One whose numbers depend on a figure of the whole tensor sets `looks` and implements `look`, too,
    which is called before. One that needs the whole tensor at once sets `needs_whole` and implements `whole`.
    """

    name: str
    looks: bool = False
    needs_whole: bool = False

    def problem(self, arguments: Arguments) -> tuple[Parameter, str] | None:
        """The parameter that the method is not defined for, and why; None where all is well."""
        return None

    def grain(self, shape: tuple[int, ...]) -> int:
        """Pieces of a tensor of that shape begin at multiples of so many numbers."""
        return 1

    def look(self, read: Read, arguments: Arguments, piece: Piece) -> object:
        """What must be known of the whole tensor before `combine`, which finds it in `piece.facts`.

        `read` may be called several times.
        """
        raise NotImplementedError

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        """Fill `out`, fp32 [n], from `inputs`, fp32 [n] each, which must not be written to."""
        raise NotImplementedError

    def whole(self, inputs: list[torch.Tensor], arguments: Arguments, piece: Piece) -> torch.Tensor:
        """The merged tensor, fp32 [shape], from `inputs`, fp32 [shape] each, which must not be written to.

        What it returns may be an input. The list is its own: what it takes out of that is freed.
        """
        raise NotImplementedError

    def refusal(self, family: str | None) -> str | None:
        """Why the method cannot be used with models of `family`; None where it can."""
        return None


def row_of(shape: tuple[int, ...]) -> int:
    """Numbers of a row of a matrix, of a filter of a convolution, 1 of a vector."""
    return max(prod(shape[1:]), 1)


UNIT: Final = "is a share, from 0 to 1"


def share_problem(arguments: Arguments, *names: Parameter) -> tuple[Parameter, str] | None:
    """The first of these parameters that is no share of a whole."""
    return next(((name, UNIT) for name in names if not 0 <= getattr(arguments, name) <= 1), None)
