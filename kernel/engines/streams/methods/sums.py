"""Sums of models, number by number."""

from collections.abc import Sequence

import torch

from kernel.engines.streams.methods.method import Arguments, Method, Piece

#: Weights whose sum is this near to 1 are meant to be 1; thirds and tenths are not exact in binary.
_ONE_WITHIN = 1e-9


def is_one(value: float) -> bool:
    """Whether a sum of weights is meant to be 1."""
    return abs(value - 1) <= _ONE_WITHIN


class WeightedSum(Method):
    """Σ wᵢ·θᵢ. Where the weights sum to 1, computed as θ₁ + Σ wᵢ·(θᵢ − θ₁), so that equal models stay equal.

    Source: Wortsman and others, "Model soups", ICML 2022; "weighted sum" of every checkpoint merger. It keeps
    a model merged with itself where the weights sum to 1.
    """

    name = "weighted_sum"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        first, *others = inputs
        weights = arguments.weights
        if not is_one(sum(weights)):
            torch.mul(first, weights[0], out=out)
            for other, weight in zip(others, weights[1:], strict=True):
                out.add_(other, alpha=weight)
        elif len(others) == 1:
            torch.lerp(first, others[0], weights[1], out=out)
        else:
            out.copy_(first)
            for other, weight in zip(others, weights[1:], strict=True):
                out.add_(other - first, alpha=weight)


class TripleSum(Method):
    """(1 − α − β)·A + α·B + β·C.

    Source: SuperMerger, "Triple sum"; Chattiori's TRS.
    """

    name = "triple_sum"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, c = inputs
        torch.sub(b, a, out=out)
        out.mul_(arguments.alpha).add_(c - a, alpha=arguments.beta).add_(a)


class SumTwice(Method):
    """(1 − β)·((1 − α)·A + α·B) + β·C.

    Source: SuperMerger, "Sum twice"; Chattiori's ST.
    """

    name = "sum_twice"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, c = inputs
        torch.lerp(a, b, arguments.alpha, out=out)
        torch.lerp(out, c, arguments.beta, out=out)
