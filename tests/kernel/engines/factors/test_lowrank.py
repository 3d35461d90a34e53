"""The best matrix of a low rank, against dense singular values in float64."""

import pytest
import torch

from kernel.engines.factors import lowrank
from kernel.engines.factors.lowrank import Held, NotFinite, best, chunks, relative


def _matrix(rows: int, columns: int, fall: float, seed: int = 0) -> torch.Tensor:
    """Random directions, each `fall` times as large as the one before."""
    source = torch.Generator().manual_seed(seed)
    count = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, count, generator=source, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, count, generator=source, dtype=torch.float64)).Q
    matrix: torch.Tensor = (left * fall ** torch.arange(count, dtype=torch.float64)) @ right.T
    return matrix


class _Counted:
    """A matrix that is asked for its rows, and says how many at most."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self._numbers = numbers
        self.shape = (numbers.shape[0], numbers.shape[1])
        self.device = numbers.device
        self.most = 0

    def rows(self, start: int, stop: int) -> torch.Tensor:
        self.most = max(self.most, stop - start)
        return self._numbers[start:stop]


@pytest.mark.parametrize("shape", [(200, 120), (120, 300), (64, 64)])
@pytest.mark.parametrize("fall", [0.9, 0.5])
def test_it_is_nearly_the_best_and_its_error_is_true(shape: tuple[int, int], fall: float) -> None:
    exact = _matrix(*shape, fall)
    found = best(Held(exact.float()), 12)
    values = torch.linalg.svdvals(exact)
    error = float((found.up.double() @ found.down.double() - exact).square().sum())
    assert found.square == pytest.approx(float(values.square().sum()), rel=1e-6)
    assert found.error_square == pytest.approx(error, rel=1e-3)
    assert error == pytest.approx(float(values[12:].square().sum()), rel=1e-3)


def test_small_matrices_are_decomposed_exactly() -> None:
    exact = _matrix(30, 400, 0.8)
    found = best(Held(exact.float()), 10)
    values = torch.linalg.svdvals(exact.float().double())
    assert found.error_square == pytest.approx(float(values[10:].square().sum()), rel=1e-9)


def test_a_matrix_of_that_rank_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = torch.Generator().manual_seed(0)
    exact = torch.randn(200, 6, generator=source) @ torch.randn(6, 150, generator=source)
    found = best(Held(exact), 8)
    assert relative(found.error_square, found.square) < 1e-5
    assert torch.allclose(found.up @ found.down, exact, atol=1e-4)


def test_large_matrices_are_never_there_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = _matrix(200, 120, 0.8).float()
    whole = best(Held(exact), 12)
    monkeypatch.setattr(lowrank, "KEEP_BYTES", 1000)
    monkeypatch.setattr(lowrank, "CHUNK_BYTES", 120 * 4 * 7)
    counted = _Counted(exact)
    found = best(counted, 12)
    assert counted.most == 7
    assert torch.allclose(found.up @ found.down, whole.up @ whole.down, atol=1e-5)
    assert found.error_square == pytest.approx(whole.error_square, rel=1e-3)


def test_zeros_have_no_error() -> None:
    found = best(Held(torch.zeros(200, 120)), 12)
    assert (found.square, found.error_square) == (0.0, 0.0)
    assert not found.up.any()
    assert relative(found.error_square, found.square) == 0.0


@pytest.mark.parametrize("shape", [(200, 120), (10, 300)])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused(shape: tuple[int, int], bad: float) -> None:
    matrix = torch.ones(shape)
    matrix[3, 7] = bad
    with pytest.raises(NotFinite):
        best(Held(matrix), 12)


def test_the_seed_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = _matrix(200, 120, 0.97).float()
    torch.manual_seed(1)
    first = best(Held(exact), 12, seed=5)
    torch.manual_seed(2)
    again, other = best(Held(exact), 12, seed=5), best(Held(exact), 12, seed=6)
    assert torch.equal(first.up, again.up)
    assert torch.equal(first.down, again.down)
    assert not torch.equal(first.up, other.up)


def test_power_iterations_come_closer() -> None:
    exact = _matrix(300, 300, 0.995).float()
    errors = [best(Held(exact), 10, iterations=count).error_square for count in (0, 1, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_chunks_make_up_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowrank, "CHUNK_BYTES", 100)
    spans = list(chunks((11, 9)))
    assert spans[0][0] == 0
    assert spans[-1][1] == 11
    assert all(before[1] == after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert list(chunks((3, 1000))) == [(0, 1), (1, 2), (2, 3)]
