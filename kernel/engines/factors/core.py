"""The singular values of up · down from the r × r core of the two factors; out × in is never formed.

With Gᵤ = upᵀ·up = L·Lᵀ (Cholesky), up = Q·Lᵀ with orthonormal columns in Q, so up · down = Q · (Lᵀ·down), and
Lᵀ·(down·downᵀ)·L = W·S²·Wᵀ gives S by one symmetric eigenproblem (Golub and Van Loan, Matrix Computations,
8.6). What is kept is cut to k by two small products: U·S = up·P and Vh = Q·down, with P (r, k) and Q (k, r).

Squaring costs half of the digits: an eigenvalue S² is off by about eps · ‖up‖² · ‖down‖², whatever its size.
Where that is too much for the smallest, as for factors of less rank than they seem, both are taken apart by
QR and the core by an SVD instead, which is as precise as a dense float64 SVD. Real files hardly need it:
rounding to half precision alone fills their spectra.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import torch

#: The smallest singular value, as a share of ‖up‖ · ‖down‖ (Frobenius), for which the Gram matrices are
#: trusted: there eps ÷ share² is 2e-4, and every value ten times as large is known to 2e-6 and better.
_TRUSTED: Final = 1e-6
#: Numbers of a factor that are in float64 at a time, 1 MiB: they stay in a core's cache, and memory that is
#: always asked for in the same pieces does not crumble.
_PART: Final = 1 << 17


class Core(NamedTuple):
    """up · down = (up · left) · (right · down), the first with columns U·S, the second with rows Vh.

    `values` (m,): the singular values by falling value, float64, m = min(r, out, in). `left` (r, m) and
    `right` (m, r), float64. It holds nothing of the size of the factors.
    """

    values: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def cut(self, rank: int) -> "Core":
        """The same with room for `rank` directions only; `values` stays whole. Copies, so that the rest is
        freed."""
        return Core(self.values, self.left[:, :rank].contiguous(), self.right[:rank].contiguous())


class Decomposition(NamedTuple):
    """The singular value decomposition of `up` (out, r) · `down` (r, in)."""

    up: torch.Tensor
    down: torch.Tensor
    core: Core

    @property
    def values(self) -> torch.Tensor:
        """The singular values by falling value, float64; the rest of them, to min(out, in), are zero."""
        return self.core.values

    @property
    def total(self) -> float:
        """The square of the Frobenius norm of up · down."""
        return float(self.values.square().sum())

    def truncated(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """U·S (out, k) and Vh (k, in) of the first k = min(rank, m) directions, in float64."""
        left, right = self.core.left[:, :rank], self.core.right[:rank]
        up = left.new_empty(self.up.shape[0], left.shape[1])
        down = right.new_empty(right.shape[0], self.down.shape[1])
        for rows in parts(self.up):
            up[rows] = wide(self.up[rows]) @ left
        for columns in parts(self.down.T):
            down[:, columns] = right @ wide(self.down[:, columns])
        return up, down


class NotFinite(Exception):
    """Raised when a factor has NaN or infinite numbers; `factor` says which."""

    def __init__(self, factor: Literal["up", "down"]) -> None:
        super().__init__(factor)
        self.factor = factor


def decompose(up: torch.Tensor, down: torch.Tensor) -> Decomposition:
    """The decomposition of `up` (out, r) · `down` (r, in), of any types. Raises NotFinite."""
    return Decomposition(up, down, core_of(up, down))


def core_of(up: torch.Tensor, down: torch.Tensor) -> Core:
    """What `decompose` computes, without holding the factors; on their device. Raises NotFinite."""
    if up.shape[1] > min(up.shape[0], down.shape[1]):
        return _by_qr(wide(up), wide(down))
    # Small eigenproblems are faster on a CPU than on any GPU.
    of_up, of_down = gram(up.T).cpu(), gram(down).cpu()
    _check(of_up.trace(), of_down.trace())
    core = _by_gram(of_up, of_down)
    if core is None:
        return _by_qr(wide(up), wide(down))
    return Core(*(each.to(up.device) for each in core))


def gram(rows: torch.Tensor) -> torch.Tensor:
    """rows · rowsᵀ (r, r) in float64, of rows (r, n) of any type."""
    total = torch.zeros(rows.shape[0], rows.shape[0], dtype=torch.float64, device=rows.device)
    for columns in parts(rows.T):
        exact = wide(rows[:, columns])
        total.addmm_(exact, exact.T)
    return total


def parts(lines: torch.Tensor) -> Iterator[slice]:
    """Ranges of the lines of a matrix that are computed with together: on a CPU few, else all of them."""
    count, width = lines.shape
    step = count if lines.device.type != "cpu" else max(1, _PART // width)
    for start in range(0, count, step):
        yield slice(start, start + step)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """As float64. Half precision goes through float32, which processors convert many at a time."""
    if tensor.element_size() < 4:
        tensor = tensor.to(torch.float32)
    return tensor.to(torch.float64)


def _by_gram(of_up: torch.Tensor, of_down: torch.Tensor) -> Core | None:
    """None where the Gram matrices do not have the digits."""
    factor, failed = torch.linalg.cholesky_ex(of_up)
    if int(failed):
        return None
    squares, vectors = torch.linalg.eigh(factor.T @ of_down @ factor)
    squares, vectors = squares.flip(0), vectors.flip(1)
    if not bool(squares[-1] > _TRUSTED**2 * of_up.trace() * of_down.trace()):
        return None
    values = squares.sqrt()
    left = torch.linalg.solve_triangular(factor.T, vectors * values, upper=True)
    return Core(values, left, (vectors / values).T @ factor.T)


def _by_qr(up: torch.Tensor, down: torch.Tensor) -> Core:
    """With up = A·R and downᵀ = B·T, R·Tᵀ = W·S·Zᵀ: U·S = up·(down·V) = up·(Tᵀ·Z), and Vh = (S⁻¹·Wᵀ·R)·down.
    Neither factor is inverted, so they may have any rank. Raises NotFinite."""
    _check(up.square().sum(), down.square().sum())
    of_up = torch.linalg.qr(up, mode="r").R
    of_down = torch.linalg.qr(down.T, mode="r").R
    columns, values, rows = torch.linalg.svd(of_up @ of_down.T, full_matrices=False)
    # A direction whose value is rounding noise has no row of its own; its column is as good as zero.
    noise = values[:1] * torch.finfo(torch.float64).eps * max(up.shape[1], 1)
    inverse = torch.where(values > noise, 1 / values, 0)
    return Core(values, of_down.T @ rows.T, (columns * inverse).T @ of_up)


def _check(of_up: torch.Tensor, of_down: torch.Tensor) -> None:
    if not bool(torch.isfinite(of_up)):
        raise NotFinite("up")
    if not bool(torch.isfinite(of_down)):
        raise NotFinite("down")
