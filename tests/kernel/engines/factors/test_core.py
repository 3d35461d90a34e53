"""Singular values from the r × r core, against the dense SVD in float64."""

import pytest
import torch

from kernel.engines.factors.core import NotFinite, decompose
from tests.builders.adapters import generator

#: out, in, rank: with ranks below, at and above the smaller side.
_SHAPES = [(48, 40, 8), (40, 96, 16), (30, 20, 20), (20, 30, 33), (7, 5, 64), (16, 1, 4), (1, 9, 3)]
_DECAYS = [1.0, 0.9, 0.5, 0.1]


def _pair(out: int, inside: int, rank: int, decay: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(seed)
    up = torch.randn(out, rank, generator=source, dtype=torch.float64) * decay ** torch.arange(rank)
    return up, torch.randn(rank, inside, generator=source, dtype=torch.float64)


@pytest.mark.parametrize("decay", _DECAYS)
@pytest.mark.parametrize(("out", "inside", "rank"), _SHAPES)
def test_values_and_products_are_those_of_the_dense_svd(
    out: int, inside: int, rank: int, decay: float
) -> None:
    up, down = _pair(out, inside, rank, decay)
    dense = up @ down
    expected = torch.linalg.svdvals(dense)
    found = decompose(up, down)
    count = len(found.values)
    assert count == min(out, inside, rank)
    assert float((found.values - expected[:count]).abs().max()) <= 1e-12 * float(expected[0])
    left, right = found.truncated(count)
    assert float((left @ right - dense).norm()) <= 1e-12 * float(dense.norm())
    assert found.total == pytest.approx(float(dense.square().sum()), rel=1e-12)


@pytest.mark.parametrize("decay", _DECAYS)
@pytest.mark.parametrize(("out", "inside", "rank"), _SHAPES)
def test_a_truncation_is_the_best_of_its_rank(out: int, inside: int, rank: int, decay: float) -> None:
    up, down = _pair(out, inside, rank, decay, seed=1)
    dense = up @ down
    columns, values, rows = torch.linalg.svd(dense, full_matrices=False)
    kept = max(1, min(out, inside, rank) // 3)
    best = (columns[:, :kept] * values[:kept]) @ rows[:kept]
    left, right = decompose(up, down).truncated(kept)
    assert left.shape == (out, kept) and right.shape == (kept, inside)
    assert float((left @ right - best).norm()) <= 1e-10 * float(best.norm())
    assert torch.allclose(right @ right.T, torch.eye(kept, dtype=torch.float64), atol=1e-8)
    assert torch.allclose(left.norm(dim=0), values[:kept], rtol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_type_is_computed_in_float64(dtype: torch.dtype) -> None:
    up, down = (each.to(dtype) for each in _pair(48, 40, 8, 0.7))
    expected = torch.linalg.svdvals(up.double() @ down.double())[:8]
    found = decompose(up, down).values
    assert found.dtype == torch.float64
    assert torch.allclose(found, expected, rtol=1e-10)


def test_factors_of_a_lower_rank_than_they_seem() -> None:
    up, down = _pair(40, 30, 3, 1.0)
    mixing = torch.randn(3, 12, generator=generator(5), dtype=torch.float64)
    up, down = up @ mixing, torch.linalg.pinv(mixing) @ down
    found = decompose(up, down)
    assert int((found.values > found.values[0] * 1e-10).sum()) == 3
    left, right = found.truncated(3)
    assert float((left @ right - up @ down).norm()) <= 1e-12 * float((up @ down).norm())


@pytest.mark.parametrize("which", ["up", "down", "both"])
def test_modules_of_zeros_have_no_values_and_no_numbers_that_are_not_finite(which: str) -> None:
    up, down = _pair(20, 30, 4, 1.0)
    up, down = up * (which == "down"), down * (which == "up")
    found = decompose(up, down)
    assert float(found.values.abs().max()) == 0
    for matrix in found.truncated(2):
        assert bool(torch.isfinite(matrix).all())
    left, right = found.truncated(4)
    assert float((left @ right).abs().max()) == 0


@pytest.mark.parametrize("rank", [4, 40])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_factor_that_is_not_finite_is_named(value: float, rank: int) -> None:
    for which in (0, 1):
        pair = _pair(20, 30, rank, 1.0)
        pair[which][3, 2] = value
        with pytest.raises(NotFinite) as refused:
            decompose(*pair)
        assert refused.value.factor == ("up", "down")[which]


def test_a_cut_core_is_small_and_gives_the_same_directions() -> None:
    up, down = _pair(40, 30, 16, 0.9)
    found = decompose(up, down)
    cut = found.core.cut(3)
    assert cut.left.shape == (16, 3) and cut.right.shape == (3, 16) and len(cut.values) == 16
    assert cut.left.untyped_storage().nbytes() == 16 * 3 * 8
    assert torch.equal(cut.left, found.core.left[:, :3])
