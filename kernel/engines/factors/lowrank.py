"""The best matrix of a low rank for one that is known by its rows, with the error that is left.

Source: N. Halko, P.-G. Martinsson, J. A. Tropp, "Finding structure with randomness: probabilistic algorithms
for constructing approximate matrix decompositions", SIAM Review 53 (2011): algorithm 4.4 (randomised subspace
iteration) with 5.1 (direct SVD). Small matrices are decomposed exactly.
"""

from collections.abc import Iterator
from math import isfinite, sqrt
from typing import Final, NamedTuple, Protocol

import torch

from kernel.engines.factors.core import decompose

#: Columns sampled beyond the rank (section 4.2 of the source: 5 to 10).
OVERSAMPLING: Final = 10
#: Bytes of a matrix in fp32 up to which it is kept whole; larger ones are made again for every pass.
KEEP_BYTES: Final = 64 << 20
#: Bytes in fp32 of the rows that are looked at together: small enough for a cache.
CHUNK_BYTES: Final = 4 << 20
#: Below this share of ‖M‖² the difference ‖M‖² − Σσ² is mostly rounding, and the error is measured instead.
_CANCELLATION: Final = 1e-2


class Matrix(Protocol):
    """A matrix whose rows can be asked for. `shape` is (rows, columns)."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def device(self) -> torch.device: ...

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows from `start` to before `stop`, fp32 and on `device`; not to be written to."""
        ...


class NotFinite(Exception):
    """Raised when a matrix has NaN or infinite numbers."""


class LowRank(NamedTuple):
    """`up` (rows, k) with the singular values in it times `down` (k, columns), both fp32.

    `square` is ‖M‖², `error_square` is ‖M − up·down‖², both of the Frobenius norm.
    """

    up: torch.Tensor
    down: torch.Tensor
    square: float
    error_square: float


def chunks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that make up a matrix, by its shape alone."""
    rows, columns = shape
    step = max(1, CHUNK_BYTES // (4 * max(1, columns)))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def square(chunk: torch.Tensor) -> float:
    """‖chunk‖², summed in fp64 over its rows."""
    return float(torch.linalg.vector_norm(chunk.flatten(1), dim=1).double().square().sum())


def best(matrix: Matrix, rank: int, *, iterations: int = 2, seed: int = 0) -> LowRank:
    """The best approximation of `rank` at most, and how far off it is.

    The same matrix, rank and seed give the same bits, whatever else runs. Raises NotFinite.
    """
    rows, columns = matrix.shape
    rank = min(rank, rows, columns)
    sampled = min(rank + OVERSAMPLING, rows, columns)
    held = _held(matrix)
    norm_square = sum(square(held.rows(*span)) for span in chunks(held.shape))
    if not isfinite(norm_square):
        raise NotFinite
    if min(rows, columns) <= 2 * sampled:
        return _exact(held, rank)
    return _randomised(held, norm_square, rank, sampled, iterations, seed)


class Held:
    """A matrix that is there."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self._numbers = numbers

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self._numbers.shape
        return rows, columns

    @property
    def device(self) -> torch.device:
        return self._numbers.device

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self._numbers[start:stop]


def _held(matrix: Matrix) -> Matrix:
    """The same matrix, with its numbers where they are few enough."""
    rows, columns = matrix.shape
    if rows * columns * 4 > KEEP_BYTES or isinstance(matrix, Held):
        return matrix
    numbers = torch.empty(matrix.shape, device=matrix.device)
    for start, stop in chunks(matrix.shape):
        numbers[start:stop] = matrix.rows(start, stop)
    return Held(numbers)


def _spans(matrix: Matrix) -> Iterator[tuple[int, int]]:
    """Ranges of rows to go through: all at once where they are there anyway."""
    return iter([(0, matrix.shape[0])]) if isinstance(matrix, Held) else chunks(matrix.shape)


def _exact(matrix: Matrix, rank: int) -> LowRank:
    whole = torch.cat([matrix.rows(*span) for span in _spans(matrix)]).double()
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    squares = values.square()
    return LowRank(
        (left[:, :rank] * values[:rank]).float(),
        right[:rank].float(),
        float(squares.sum()),
        float(squares[rank:].sum()),
    )


def _randomised(
    matrix: Matrix, norm_square: float, rank: int, sampled: int, iterations: int, seed: int
) -> LowRank:
    probes = torch.randn(matrix.shape[1], sampled, generator=torch.Generator().manual_seed(seed))
    basis = _orthonormal(_times(matrix, probes.to(matrix.device)))
    for _ in range(iterations):
        basis = _orthonormal(_times(matrix, _orthonormal(_transposed_times(matrix, basis))))
    rest = _transposed_times(matrix, basis).T.contiguous()
    found = decompose(basis, rest)
    up, down = found.truncated(rank)
    kept = float(found.values[:rank].square().sum())
    error_square = norm_square - kept
    if error_square < _CANCELLATION * norm_square:
        error_square = residual_square(matrix, up, down)
    return LowRank(up.float(), down.float(), norm_square, error_square)


def residual_square(matrix: Matrix, up: torch.Tensor, down: torch.Tensor) -> float:
    """‖M − up·down‖², made row by row."""
    return sum(
        square(torch.addmm(matrix.rows(start, stop), up[start:stop].float(), down.float(), alpha=-1))
        for start, stop in chunks(matrix.shape)
    )


def relative(error_square: float, norm_square: float) -> float:
    """√(error² / norm²); 0 for a matrix of zeros."""
    return sqrt(max(0.0, error_square) / norm_square) if norm_square > 0 else 0.0


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    basis: torch.Tensor = torch.linalg.qr(columns).Q
    return basis


def _times(matrix: Matrix, right: torch.Tensor) -> torch.Tensor:
    """M · right."""
    return torch.cat([matrix.rows(*span) @ right for span in _spans(matrix)])


def _transposed_times(matrix: Matrix, left: torch.Tensor) -> torch.Tensor:
    """Mᵀ · left."""
    total = left.new_zeros(matrix.shape[1], left.shape[1])
    for start, stop in _spans(matrix):
        total.addmm_(matrix.rows(start, stop).T, left[start:stop])
    return total
