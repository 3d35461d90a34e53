"""The ways to merge LoRAs that stay with their factors: `concat`, which is exact, and `add`."""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple
from zlib import crc32

import torch

from kernel.engines.factors.alignment import Target, ranks_of
from kernel.engines.factors.core import gram
from kernel.engines.factors.loras import Weighted
from kernel.engines.factors.networks import matrix_shape
from kernel.engines.factors.pieces import (
    Frame,
    Made,
    Narrowed,
    Term,
    Unfit,
    check,
    live,
    live_rank,
    live_term,
    multiplied,
    term,
    unfit,
)

#: Probes of an estimated error: ‖E‖² of a module to about √(2 ÷ (8 · directions of E)), 3 % of 256.
_PROBES: Final = 8
#: Multiplications that exact norms may take: a third of a second of two cores.
_EXACT_WORK: Final = 2e10


class Concat:
    """ΔW = Σ cᵢ·upᵢ·downᵢ = [c₁·up₁ … cₙ·upₙ] · [down₁; …; downₙ], with cᵢ = weight · alpha ÷ rank.

    Exact, and the ranks add.
    """

    is_estimate = False

    def __init__(self, loras: Sequence[Weighted]) -> None:
        self._loras = loras

    def rank(self, target: Target) -> int:
        """Raises WeightsUnsupported for a module that is no LoRA."""
        check(target, self._loras, exactly=True)
        return sum(live_rank(piece, self._loras, target.shape[0]) for piece in live(target))

    def merge(self, target: Target, frame: Frame) -> Made:
        """Raises WeightsNotFinite, and WeightsUnsupported where the type of the numbers has no room."""
        terms = [live_term(piece, self._loras, target.shape[0]) for piece in live(target)]
        code = frame.module.up
        try:
            scales = [Narrowed.of(each, frame) for each in terms]
        except Unfit:
            unfit(target, self._loras, frame)
        ups = [multiplied(each.up, by.of_up, code) for each, by in zip(terms, scales, strict=True)]
        downs = [multiplied(each.down, by.of_down, code) for each, by in zip(terms, scales, strict=True)]
        return Made((ups[0] if len(ups) == 1 else torch.cat(ups, dim=1),), tuple(downs), 0.0, 0.0)


class Add:
    """ΔW = W · (Σ sᵢ·pᵢ·upᵢ) · (Σ pᵢ·downᵢ) with cᵢ = weight · alpha ÷ rank, W = Σ|cᵢ|, pᵢ = |cᵢ| ÷ W and sᵢ
    the sign of cᵢ; where signs differ, they are with the downᵢ if that is closer to the sum.

    This is the sum where the LoRAs share one factor. Lower ranks are filled up with zeros. The error is
    against the exact sum: from traces of Gram matrices where those are small work, else by Hutchinson's
    estimator with Gaussian probes (Avron and Toledo, "Randomized algorithms for estimating the trace of an
    implicit symmetric positive semi-definite matrix", J. ACM 58, 2011): the mean of ‖E·x‖² is ‖E‖².
    """

    def __init__(self, loras: Sequence[Weighted], targets: Sequence[Target]) -> None:
        self._loras = loras
        self.is_estimate = sum(_exact_work(target) for target in targets) > _EXACT_WORK

    def rank(self, target: Target) -> int:
        """Raises WeightsUnsupported for a module that is no LoRA."""
        check(target, self._loras, exactly=True)
        return max(ranks_of(live(target)).values())

    def merge(self, target: Target, frame: Frame) -> Made:
        """Raises WeightsNotFinite, and WeightsUnsupported where the type of the numbers has no room."""
        terms = self._terms(target)
        wide = [_Sides(_copied(each.up), _copied(each.down)) for each in terms]
        coefficients = [each.coefficient for each in terms]
        measure = partial(_probed, seed=crc32(target.name.encode())) if self.is_estimate else _traced
        ways = [(way, measure(wide, coefficients, way.mix(coefficients))) for way in _ways(coefficients)]
        way, norms = min(ways, key=lambda each: each[1].error_square)
        code = frame.module.up
        try:
            mixed = Term(*_mixed(wide, way, way.total / frame.unit), frame.unit)
            scale = Narrowed.of(mixed, frame)
        except Unfit:
            unfit(target, self._loras, frame)
        up, down = multiplied(mixed.up, scale.of_up, code), multiplied(mixed.down, scale.of_down, code)
        return Made((up,), (down,), *norms)

    def _terms(self, target: Target) -> list[Term]:
        """One for each LoRA, whatever number of modules it has there."""
        by_lora: dict[int, list[Term]] = {}
        for piece in live(target):
            by_lora.setdefault(piece.lora, []).append(term(piece, self._loras, target.shape[0]))
        return [_joined(each) for each in by_lora.values()]


class _Sides(NamedTuple):
    """The factors of a LoRA in fp32."""

    up: torch.Tensor
    down: torch.Tensor


class _Way(NamedTuple):
    """total · (Σ up[i]·upᵢ) · (Σ down[i]·downᵢ)."""

    total: float
    up: list[float]
    down: list[float]

    def mix(self, coefficients: Sequence[float]) -> list[list[float]]:
        """What this is more than the exact sum: the factor of upᵢ·downⱼ."""
        exact = _diagonal(coefficients)
        return [
            [self.total * of_up * of_down - own for of_down, own in zip(self.down, row, strict=True)]
            for of_up, row in zip(self.up, exact, strict=True)
        ]


def _copied(factor: torch.Tensor) -> torch.Tensor:
    """In fp32, and never the memory of the file."""
    return factor.to(torch.float32, copy=True)


def _mixed(sides: Sequence[_Sides], way: _Way, scale: float) -> _Sides:
    """The two sums of a way, the first times `scale`, in the memory of the largest factors."""
    most = max(range(len(sides)), key=lambda index: sides[index].up.shape[1])
    up, down = sides[most].up.mul_(way.up[most] * scale), sides[most].down.mul_(way.down[most])
    for index, each in enumerate(sides):
        if index != most:
            up[:, : each.up.shape[1]].add_(each.up, alpha=way.up[index] * scale)
            down[: each.down.shape[0]].add_(each.down, alpha=way.down[index])
    return _Sides(up, down)


class _Norms(NamedTuple):
    """‖exact sum‖² and ‖error‖²."""

    square: float
    error_square: float


def _diagonal(coefficients: Sequence[float]) -> list[list[float]]:
    return [[c if i == j else 0.0 for j in range(len(coefficients))] for i, c in enumerate(coefficients)]


def _ways(coefficients: Sequence[float]) -> list[_Way]:
    """The signs with the ups; where they differ, also with the downs."""
    total = sum(map(abs, coefficients))
    signed = [each / total if total else 0.0 for each in coefficients]
    plain = [abs(each) for each in signed]
    ways = [_Way(total, signed, plain)]
    return ways if len({each > 0 for each in signed}) == 1 else [*ways, _Way(total, plain, signed)]


def _exact_work(target: Target) -> int:
    return sum(matrix_shape(target.shape)) * sum(ranks_of(live(target)).values()) ** 2


def _joined(terms: Sequence[Term]) -> Term:
    """Several terms of one LoRA as one, with the coefficient of the first."""
    if len(terms) == 1:
        return terms[0]
    coefficient = next((each.coefficient for each in terms if each.coefficient), 1.0)
    up = torch.cat([each.up.double() * (each.coefficient / coefficient) for each in terms], dim=1)
    return Term(up, torch.cat([each.down.double() for each in terms]), coefficient)


def _probed(
    sides: Sequence[_Sides], coefficients: Sequence[float], mix: Sequence[Sequence[float]], *, seed: int
) -> _Norms:
    """Estimates, from the same probes."""
    probes = torch.randn(sides[0].down.shape[1], _PROBES, generator=torch.Generator().manual_seed(seed))
    inner = [each.down @ probes for each in sides]
    images = torch.zeros(sides[0].up.shape[0], 2 * _PROBES)
    for own, coefficient, factors, each in zip(inner, coefficients, mix, sides, strict=True):
        mixed = torch.zeros_like(own)
        for other, factor in zip(inner, factors, strict=True):
            shared = min(len(own), len(other))
            mixed[:shared].add_(other[:shared], alpha=factor)
        images.addmm_(each.up, torch.cat([own * coefficient, mixed], dim=1))
    squares = torch.linalg.vector_norm(images, dim=0).double().square()
    return _Norms(float(squares[:_PROBES].mean()), float(squares[_PROBES:].mean()))


def _traced(sides: Sequence[_Sides], coefficients: Sequence[float], mix: Sequence[Sequence[float]]) -> _Norms:
    """‖U·K·D‖² = tr(Kᵀ·(UᵀU)·K·(D·Dᵀ)) with U = [up₁ … upₙ], D = [down₁; …; downₙ]."""
    of_up = gram(torch.cat([each.up for each in sides], dim=1).T)
    of_down = gram(torch.cat([each.down for each in sides]))
    ranks = [each.up.shape[1] for each in sides]
    exact = _blocks(ranks, _diagonal(coefficients))
    error = _blocks(ranks, mix)
    square, error_square = (float(((core.T @ of_up @ core) * of_down).sum()) for core in (exact, error))
    return _Norms(square, max(0.0, error_square))


def _blocks(ranks: Sequence[int], factors: Sequence[Sequence[float]]) -> torch.Tensor:
    """Identities, cut to the ranks, times factors: (Σ ranks, Σ ranks), float64."""
    rows = [
        torch.cat([torch.eye(rank, other).double() * own for other, own in zip(ranks, row, strict=True)], 1)
        for rank, row in zip(ranks, factors, strict=True)
    ]
    return torch.cat(rows)
