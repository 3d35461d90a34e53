"""Methods of two models that are not sums, number by number."""

import math
from collections.abc import Sequence

import torch

from contract.rules.merge_methods import Parameter
from kernel.engines.streams.methods.method import Arguments, Method, Piece, share_problem


class Geometric(Method):
    """The real part of A^(1−α)·B^α with complex powers: |A|^(1−α)·|B|^α, times cos(π·(1−α)) where only A is
    negative, cos(π·α) where only B is, and −1 where both are.

    Source: `geometric_sum` of sd-mecha (MIT). The plain power of Chattiori's GEO is no number where a weight
    is negative, that is for half of every model.
    """

    name = "geometric"

    def problem(self, arguments: Arguments) -> tuple[Parameter, str] | None:
        return share_problem(arguments, "alpha")

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b = inputs
        alpha = arguments.alpha
        if alpha in (0, 1):
            out.copy_(b if alpha else a)
            return
        torch.lerp(a.abs().log_(), b.abs().log_(), alpha, out=out)
        out.exp_()
        # The logarithm of 0 is −∞, and −∞ − −∞ no number.
        out.masked_fill_((a == 0) | (b == 0), 0)
        # Equal numbers stay what they are to the last bit, whatever exp and log do.
        torch.where(a.abs() == b.abs(), a.abs(), out, out=out)
        below_a, below_b = a < 0, b < 0
        out.mul_(torch.where(below_a, math.cos(math.pi * (1 - alpha)), 1.0).masked_fill_(below_b, -1))
        torch.where(below_b & ~below_a, out * -math.cos(math.pi * alpha), out, out=out)


class Sigmoid(Method):
    """(1 − t)·A + t·B with t = α²·(3 − 2·α): α eased in and out.

    Source: `interp="sigmoid"` of the checkpoint merger in the community pipelines of diffusers (Apache-2.0).
    Chattiori's SIG, σ(4α)·(A + B) − σ(α)·A, is another formula, which changes a model merged with itself.
    """

    name = "sigmoid"

    def problem(self, arguments: Arguments) -> tuple[Parameter, str] | None:
        return share_problem(arguments, "alpha")

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        alpha = arguments.alpha
        torch.lerp(inputs[0], inputs[1], alpha * alpha * (3 - 2 * alpha), out=out)


class Maximum(Method):
    """max(A, B), number by number.

    Source: the "max" of sd-merge-models (idelairre), which Chattiori's MAX is.
    """

    name = "max"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        torch.maximum(inputs[0], inputs[1], out=out)


class TensorSum(Method):
    """The rows of A, of which those from β·n to (α + β)·n are B's; n rows, places rounded down. Where α + β
    is more than 1, those from (α + β − 1)·n to β·n are A's and the rest B's.

    Source: SuperMerger's calculation mode "tensor". Numbers without a shape are A's.
    """

    name = "tensor_sum"

    def problem(self, arguments: Arguments) -> tuple[Parameter, str] | None:
        return share_problem(arguments, "alpha", "beta")

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        outside, inside = inputs
        if not piece.shape:
            out.copy_(outside)
            return
        rows, both = piece.shape[0], arguments.alpha + arguments.beta
        first, last = _place(rows * arguments.beta), _place(rows * both)
        if both > 1:
            outside, inside = inside, outside
            first, last = _place(rows * (both - 1)), _place(rows * arguments.beta)
        row = math.prod(piece.shape[1:])
        start, end = (min(max(each * row - piece.start, 0), len(out)) for each in (first, last))
        out.copy_(outside)
        out[start:end] = inside[start:end]


def _place(share: float) -> int:
    """Rounded down, where 2.9999999 is a 3 that binary numbers cannot write."""
    return math.floor(share + 1e-9)
