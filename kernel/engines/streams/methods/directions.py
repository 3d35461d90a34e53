"""Methods that look at the directions of tensors as vectors."""

import math
from collections.abc import Sequence
from typing import Final

import torch

from kernel.engines.streams.methods.method import Arguments, Method, Piece, Read, row_of

#: Cosine from which two tensors count as parallel: 1.8 degrees, where the arc and its chord are one.
_PARALLEL: Final = 0.9995


class Slerp(Method):
    """sin((1 − α)·ω)/sin ω·A + sin(α·ω)/sin ω·B, ω the angle between A and B as vectors; (1 − α)·A + α·B
    where they are nearly parallel, opposite, or 0.

    Source: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, tensor by tensor. The
    tensors keep their lengths, as in mergekit; sd-mecha scales both to 1 before, and the result to a length
    between.
    """

    name = "slerp"
    looks = True

    def look(self, read: Read, arguments: Arguments, piece: Piece) -> object:
        products = torch.zeros(3, dtype=torch.float64)
        for a, b in read():
            products += torch.stack(_products(a, b, 0))
        cosine = float(_cosine(products))
        has_arc = abs(cosine) <= _PARALLEL and bool(products[1:].all())
        return _arc(math.acos(cosine), arguments.alpha) if has_arc else None

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b = inputs
        if piece.facts is None:
            torch.lerp(a, b, arguments.alpha, out=out)
            return
        share_a, share_b = piece.facts
        torch.mul(a, share_a, out=out)
        out.add_(b, alpha=share_b)


class CosineA(Method):
    """(1 − k)·A + k·B with k = 1 − clamp(s − α, 0, 1): s is the cosine of A and B column by column, 0 for a
    column of zeros. Where the models agree the structure is A's.

    Source: SuperMerger's cosineA in the form of `add_cosine_a` of sd-mecha (MIT), which needs no look at the
    whole of both models before. That it scales columns to length 1 first does not change their cosine.
    """

    name = "cosine_a"
    looks = True

    def grain(self, shape: tuple[int, ...]) -> int:
        return row_of(shape)

    def look(self, read: Read, arguments: Arguments, piece: Piece) -> object:
        return _share_of_b(_cosine(_by_column(read, piece)), arguments.alpha)

    def combine(
        self, inputs: Sequence[torch.Tensor], out: torch.Tensor, arguments: Arguments, piece: Piece
    ) -> None:
        a, b, result = (each.view(-1, len(piece.facts)) for each in (*inputs, out))
        torch.lerp(a, b, piece.facts, out=result)


class CosineB(CosineA):
    """As cosine_a, with s the mean of the cosine column by column and that of the whole tensors.

    Source: SuperMerger's cosineB in the form of `add_cosine_b` of sd-mecha (MIT).
    """

    name = "cosine_b"

    def look(self, read: Read, arguments: Arguments, piece: Piece) -> object:
        products = _by_column(read, piece)
        alike = (_cosine(products) + _cosine(products.sum(1))) / 2
        return _share_of_b(alike, arguments.alpha)


def _arc(angle: float, alpha: float) -> tuple[float, float]:
    """The shares of A and B at a part `alpha` of the way from one to the other."""
    return math.sin((1 - alpha) * angle) / math.sin(angle), math.sin(alpha * angle) / math.sin(angle)


def _share_of_b(alike: torch.Tensor, alpha: float) -> torch.Tensor:
    return (1 - (alike - alpha).clamp_(0, 1)).float()


def _by_column(read: Read, piece: Piece) -> torch.Tensor:
    """float64 [3, columns]: `_products` of every column."""
    columns = row_of(piece.shape)
    products = torch.zeros(3, columns, dtype=torch.float64)
    for a, b in read():
        products += torch.stack(_products(a.view(-1, columns), b.view(-1, columns), 0))
    return products


def _products(a: torch.Tensor, b: torch.Tensor, axis: int) -> list[torch.Tensor]:
    """A·B, A·A and B·B along an axis, float64: squares of large or small numbers are none in fp32."""
    a, b = a.double(), b.double()
    return [(a * b).sum(axis), (a * a).sum(axis), (b * b).sum(axis)]


def _cosine(products: torch.Tensor) -> torch.Tensor:
    """From A·B, A·A and B·B; 0 where one of them is 0."""
    both, a, b = products
    return torch.where((a == 0) | (b == 0), 0.0, both / (a.sqrt() * b.sqrt()))
