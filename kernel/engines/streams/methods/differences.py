"""Methods that carry the difference of two models, B − C, over to a third, A."""

from collections.abc import Sequence

import torch

from contract.rules.merge_methods import Parameter
from kernel.engines.streams.methods.method import Arguments, Method, Piece, share_problem

#: How much more than the plain difference SuperMerger's train difference adds.
_TRAIN_STRENGTH = 1.8


class AddDifference(Method):
    """A + α·(B − C).

    Source: Ilharco and others, "Editing models with task arithmetic", ICLR 2023; "Add difference" of every
    checkpoint merger.
    """

    name = "add_difference"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, c = inputs
        torch.sub(b, c, out=out)
        out.mul_(arguments.alpha).add_(a)


class TrainDifference(Method):
    """A + 1.8·α·s·(B − C), s = |B − A| / (|B − A| + |B − C|), and 0 where both are 0.

    What A has already of what B learned is not added once more. Source: SuperMerger's trainDifference;
    `train_difference_mask` of sd-mecha is the same s.
    """

    name = "train_difference"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, c = inputs
        learned = b - c
        torch.sub(b, a, out=out)
        out.abs_()
        out.div_(out + learned.abs())
        # Where B is C nothing was learned; 0 / 0 where it is A, too.
        out.masked_fill_(learned == 0, 0)
        out.mul_(learned).mul_(_TRAIN_STRENGTH * arguments.alpha).add_(a)


class MultiplyDifference(Method):
    """C + sign·|A − C|^(1−α)·|B − C|^α, with the sign of (1 − β)·A + β·B − C: the geometric mean of both
    differences.

    Source: `multiply_difference` of meh (s1dlx, MIT), which Chattiori's MD is, too.
    """

    name = "multiply_difference"

    def problem(self, arguments: Arguments) -> tuple[Parameter, str] | None:
        return share_problem(arguments, "alpha")

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, c = inputs
        size = (a - c).abs_().pow_(1 - arguments.alpha)
        size.mul_((b - c).abs_().pow_(arguments.alpha))
        torch.lerp(a, b, arguments.beta, out=out)
        out.sub_(c)
        torch.copysign(size, out, out=out)
        out.add_(c)


class SimilarityAdd(Method):
    """(1 − s)·(A + α·(B − C)) + s·((1 − α/2)·A + α/2·B), s = β/2·(A·B / max(|A|, |B|)² + 1), and β where both
    are 0: where A and B are alike they are averaged, else the difference is added.

    Source: `similarity_add_difference` of meh (s1dlx, MIT). Chattiori's SIM fits mean and deviation of the
    result to A's afterwards; that is not part of the published method and is left out.
    """

    name = "similarity_add"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, c = inputs
        alpha, beta = arguments.alpha, arguments.beta
        largest = torch.maximum(a.abs(), b.abs())
        # Two quotients, not A·B / largest²: the square of small numbers is 0 in fp32.
        alike = (a / largest).mul_(b / largest).add_(1).mul_(beta / 2)
        alike.masked_fill_(largest == 0, beta)
        mean = torch.lerp(a, b, alpha / 2)
        torch.sub(b, c, out=out)
        out.mul_(alpha).add_(a)
        torch.lerp(out, mean, alike, out=out)
