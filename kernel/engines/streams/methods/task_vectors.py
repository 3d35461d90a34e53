"""Methods that see models as task vectors: what each learned since the first of them, τᵢ = θᵢ − θ₁.

The first model is the base; its own weight counts for nothing. The weight of another scales its task vector.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Final

import torch

from contract.rules.merge_methods import Parameter
from kernel.engines.streams.methods.chance import uniform
from kernel.engines.streams.methods.method import Arguments, Method, Piece, Read, row_of

#: Bits of a size; sizes are counted by the upper and then by the lower half of them.
_WORD: Final = 32
_HALF: Final = _WORD // 2


class Dare(Method):
    """θ₁ + Σ wᵢ·mᵢ·τᵢ / density: a number of a task vector is kept by chance, with mᵢ = 1 for a share of
    `density` of them, and what is kept is scaled up.

    Source: Yu and others, "Language models are super Mario", ICML 2024 (DARE), with task arithmetic.
    """

    name = "dare"

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        base, *others = inputs
        out.copy_(base)
        for stream, (other, weight) in enumerate(zip(others, arguments.weights[1:], strict=True), 1):
            drawn = uniform(arguments.seed, piece.name, stream, piece.start, len(out))
            learned = other - base
            # A product: a number that is none must not be dropped in silence.
            learned.mul_((drawn < arguments.density).to(learned.dtype))
            out.add_(learned, alpha=weight / arguments.density)


class Ties(Method):
    """θ₁ + τ, where τ is, number by number, the mean of the wᵢ·τᵢ that have the sign of their sum, after each
    τᵢ was cut down to the share of `density` of its largest numbers.

    Source: Yadav and others, "TIES-Merging", NeurIPS 2023 (arXiv 2306.01708), algorithm 1: trim, elect,
    disjoint mean. The trim is by tensor, as in mergekit, for a whole model is never in memory; numbers as
    large as the smallest that is kept are kept, too. The weights stand for the paper's λ; the mean is over
    the count of those that agree, as there, where mergekit divides by the sum of their weights.
    """

    name = "ties"
    looks = True

    def look(self, read: Read, arguments: Arguments, piece: Piece) -> object:
        """For each model the size of the smallest number of its task vector that is kept."""
        count = prod(piece.shape)
        kept = max(round(count * arguments.density), 1)
        if kept >= count:
            return [0.0] * (len(arguments.weights) - 1)
        return smallest_kept(lambda: ((other - base for other in others) for base, *others in read()), kept)

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        base, *others = inputs
        learned = []
        for other, weight, least in zip(others, arguments.weights[1:], piece.facts, strict=True):
            vector = other - base
            learned.append(vector.masked_fill_(vector.abs() < least, 0).mul_(weight))
        torch.add(base, elected_mean(learned), out=out)


class Della(Method):
    """As TIES, but numbers are dropped by chance, the small ones rather than the large, and what is kept is
    divided by its chance to be kept: from density − ε/2 for the smallest of a row to density + ε/2 for its
    largest, linear in the rank.

    Source: Deep and others, "DELLA-Merging", 2024 (arXiv 2406.11617): MAGPRUNE, elect, fuse. Ranks by row
    of the matrix, both ends of the chances, and the division of each kept number by its own chance (the
    paper's 1/(1 − pᵢ)) are as in the authors' code (declare-lab/della), where ε is `window_size`. mergekit's
    epsilon is half of it, and it scales all kept numbers alike, to the length from before. The paper has
    matrices only: the rows of a convolution are its filters, a vector is one row.
    """

    name = "della"

    def problem(self, arguments: Arguments) -> tuple[Parameter, str] | None:
        half = arguments.epsilon / 2
        if arguments.density - half <= 0 or arguments.density + half > 1:
            return "epsilon", "is too wide: chances from density − ε/2 to density + ε/2 must lie in 0 to 1"
        return None

    def grain(self, shape: tuple[int, ...]) -> int:
        return _ranked(shape)

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        base, *others = inputs
        learned = []
        for stream, (other, weight) in enumerate(zip(others, arguments.weights[1:], strict=True), 1):
            vector = other - base
            rows = vector.view(-1, _ranked(piece.shape))
            kept = chances(rows, arguments.density, arguments.epsilon).view(-1)
            drawn = uniform(arguments.seed, piece.name, stream, piece.start, len(out))
            # A product, as in DARE.
            learned.append(vector.div_(kept).mul_((drawn < kept).to(vector.dtype)).mul_(weight))
        torch.add(base, elected_mean(learned), out=out)


class ModelStock(Method):
    """t·mean(θ₂ … θₙ) + (1 − t)·θ₁, t = N·c / (1 + (N − 1)·c), with N models beside the base and c the mean
    cosine between their task vectors, taken tensor by tensor. The base, where a model is the base.

    Source: Jang and others, "Model Stock: all we need is just a few fine-tuned models", ECCV 2024 (arXiv
    2403.19522). It has one angle for all pairs; their mean is mergekit's. The paper has c between 0 and 1;
    below 0, where it would lead away from the models, c is 0 here.
    """

    name = "model_stock"
    looks = True

    def look(self, read: Read, arguments: Arguments, piece: Piece) -> object:
        """t."""
        products: torch.Tensor | None = None
        for base, *others in read():
            learned = torch.stack([(other - base).double() for other in others])
            products = learned @ learned.T if products is None else products.add_(learned @ learned.T)
        assert products is not None
        lengths, count = products.diagonal().sqrt(), len(products)
        if not lengths.all():
            # A model that learned nothing has no direction to compare with.
            return 0.0
        pairs = torch.tril_indices(count, count, -1)
        cosine = max(float((products / torch.outer(lengths, lengths))[*pairs].mean()), 0.0)
        return count * cosine / (1 + (count - 1) * cosine)

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        base, first, *others = inputs
        torch.sub(first, base, out=out)
        for other in others:
            out.add_(other - base)
        out.mul_(piece.facts / (len(others) + 1)).add_(base)


def smallest_kept(vectors: Callable[[], Iterable[Iterable[torch.Tensor]]], kept: int) -> list[float]:
    """For each vector the size that the `kept` largest numbers have at least, exactly.

    `vectors` goes through them piece by piece, each piece fp32 [n] of every vector. Sizes are in the order of
    their bits, so counting those finds the place: once by the upper half, and by the lower half of those that
    share the upper half found. No vector is held.
    """
    upper = [_place(counts, kept) for counts in _counted(vectors, None)]
    lower = _counted(vectors, [place for place, _ in upper])
    found = [
        (place << _HALF) + _place(counts, kept - above)[0]
        for (place, above), counts in zip(upper, lower, strict=True)
    ]
    return torch.tensor(found, dtype=torch.int32).view(torch.float32).tolist()


def _counted(
    vectors: Callable[[], Iterable[Iterable[torch.Tensor]]], upper: Sequence[int] | None
) -> list[torch.Tensor]:
    """For each vector, how many of its sizes have each upper half; with `upper`, of those that have that
    upper half, how many have each lower one."""
    counts: list[torch.Tensor] = []
    for pieces in vectors():
        for index, vector in enumerate(pieces):
            bits = vector.abs().view(torch.int32)
            halves = bits >> _HALF
            if upper is not None:
                halves = bits[halves == upper[index]] & ((1 << _HALF) - 1)
            found = torch.bincount(halves, minlength=1 << _HALF)
            if index == len(counts):
                counts.append(found)
            else:
                counts[index] += found
    return counts


def _place(counts: torch.Tensor, kept: int) -> tuple[int, int]:
    """The last place from which on there are `kept`, and how many there are behind it."""
    behind = counts.flip(0).cumsum(0)
    steps = int((behind < kept).sum())
    return len(counts) - 1 - steps, int(behind[steps - 1]) if steps else 0


def _ranked(shape: tuple[int, ...]) -> int:
    """How many numbers are ranked together: a row, or all of a vector."""
    return row_of(shape) if len(shape) > 1 else prod(shape)


def chances(rows: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """fp32 [rows, numbers], the chance of each to be kept: linear in the rank of its size in its row."""
    count = rows.shape[1]
    if count == 1:
        return torch.full_like(rows, density)
    # Sizes are in the order of their bits. With its place behind it each is another number, so that there is
    # one order on every machine; and numpy's sort uses the vector units: an eighth of a sort of places.
    keys = (rows.abs().view(torch.int32).long() << _WORD).add_(torch.arange(count))
    keys.numpy().sort(axis=1)
    order = keys.bitwise_and_((1 << _WORD) - 1)
    steps = torch.linspace(-epsilon / 2, epsilon / 2, count).add_(density)
    return torch.empty_like(rows).scatter_(1, order, steps.expand_as(rows))


def elected_mean(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Number by number, the mean of those that have the sign of the sum of all; zeros do not count."""
    whole = sum(vectors[1:], vectors[0])
    sign = torch.sign(whole)
    total, count = torch.zeros_like(sign), torch.zeros_like(sign)
    for vector in vectors:
        agrees = (torch.sign(vector) == sign) & (sign != 0)
        total.add_(torch.where(agrees, vector, 0.0))
        count.add_(agrees)
    # The sign of what is no number agrees with none; 0 times it is none again.
    return total.div_(count.clamp_(min=1)).add_(whole.mul(0))
