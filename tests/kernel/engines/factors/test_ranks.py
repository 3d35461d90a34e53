"""The rules of resizing, against another implementation of them, and on spectra to be counted by hand."""

import numpy as np
import pytest

from contract.methods.resize import ResizeMethod
from kernel.engines.factors.ranks import Spectrum, rank_of
from tests.kernel.engines.factors.rules import Values, expected_rank

_DYNAMIC: list[tuple[ResizeMethod, list[float]]] = [
    ("sv_ratio", [1.5, 2, 5, 20, 1e3]),
    ("sv_cumulative", [0.1, 0.5, 0.7, 0.9, 0.99]),
    ("sv_fro", [0.3, 0.7, 0.9, 0.99, 0.999]),
]


def _spectra(count: int) -> list[tuple[Values, int]]:
    """Random spectra of every kind, by falling value, and how many values they have beside zeros."""
    source = np.random.default_rng(0)
    spectra: list[tuple[Values, int]] = []
    for _ in range(count):
        rank, more = int(source.integers(1, 65)), int(source.integers(0, 200))
        kind = source.integers(4)
        if kind == 0:
            values: Values = source.random(rank)
        elif kind == 1:
            values = source.uniform(0.5, 0.99) ** np.arange(rank)
        elif kind == 2:
            values = 1 / np.arange(1, rank + 1) ** source.uniform(0.2, 3)
        else:
            values = np.abs(source.standard_normal(rank))
        values = np.sort(values * 10.0 ** source.uniform(-7, 3))[::-1]
        spectra.append((np.concatenate([values, np.zeros(more)]), rank))
    return spectra


@pytest.mark.parametrize(("method", "values"), _DYNAMIC)
def test_ranks_are_those_of_another_implementation(method: ResizeMethod, values: list[float]) -> None:
    chosen = set()
    for number, (spectrum, rank) in enumerate(_spectra(1000)):
        known = Spectrum(spectrum[:rank].tolist(), len(spectrum))
        for value in values:
            cap = (number % rank) + 1
            for most in (cap, rank):
                expected = min(expected_rank(spectrum, method, value, most), rank)
                assert rank_of(known, method, value, most) == expected, (number, value, most)
                chosen.add(expected)
    assert len(chosen) > 30


def test_one_more_than_the_rule_finds_is_kept() -> None:
    known = Spectrum([8.0, 4.0, 2.0, 1.0], 10)
    assert rank_of(known, "sv_ratio", 3.0, 4) == 3  # 8 and 4 are above 8/3
    assert rank_of(known, "sv_ratio", 1.0001, 4) == 2
    assert rank_of(known, "sv_ratio", 2.0, 4) == 2  # 4 is 8/2, and not above it
    assert rank_of(known, "sv_cumulative", 0.5, 4) == 2
    assert rank_of(known, "sv_cumulative", 0.54, 4) == 3  # 8 of 15 are 0.533
    assert rank_of(known, "sv_fro", 0.87, 4) == 3  # 64 of 85 are 0.8677²


def test_the_clamp_looks_at_the_full_number_of_values() -> None:
    assert rank_of(Spectrum([1.0, 1.0], 2), "sv_ratio", 9.0, 2) == 2
    assert rank_of(Spectrum([1.0, 1.0, 1.0], 3), "sv_ratio", 9.0, 2) == 2
    assert rank_of(Spectrum([1.0], 1), "sv_fro", 0.5, 4) == 1
    assert rank_of(Spectrum([1.0], 50), "sv_fro", 0.5, 4) == 1


@pytest.mark.parametrize("method", ["fixed", "sv_ratio", "sv_cumulative", "sv_fro"])
def test_a_module_of_zeros_gets_rank_one(method: ResizeMethod) -> None:
    for values in ([0.0, 0.0, 0.0], [1e-6, 1e-7, 0.0]):
        assert rank_of(Spectrum(values, 3), method, None if method == "fixed" else 0.9, 3) == 1
    assert rank_of(Spectrum([1.1e-6, 1e-7, 0.0], 3), "fixed", None, 3) == 3


def test_fixed_is_the_rank_asked_for_and_never_more_than_there_is() -> None:
    known = Spectrum([3.0, 2.0, 1.0], 10)
    assert [rank_of(known, "fixed", None, cap) for cap in (1, 2, 3, 64)] == [1, 2, 3, 3]


def test_shares_of_what_is_kept() -> None:
    known = Spectrum([3.0, 4.0 / 2, 1.0], 10)
    assert known.sum_retained(1) == pytest.approx(3 / 6)
    assert known.fro_retained(1) == pytest.approx((9 / 14) ** 0.5)
    assert known.lost(1) == pytest.approx(5)
    assert (known.sum_retained(3), known.fro_retained(3), known.lost(3)) == (1, 1, 0)
    zero = Spectrum([0.0, 0.0], 5)
    assert (zero.sum_retained(1), zero.fro_retained(1), zero.lost(1)) == (1, 1, 0)
