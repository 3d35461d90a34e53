"""`ties` and `dare`, against the definitions of their papers in dense float64."""

from pathlib import Path

import pytest
import torch

from kernel.engines.factors import lowrank
from tests.builders import adapters
from tests.builders.adapters import Tensors
from tests.kernel.engines.factors.merges import LINEAR, SHAPES, exact_sum, merge, relative, some_lora

WEIGHTS = (0.8, -0.5, 0.6)


def _loras() -> list[tuple[Tensors, float]]:
    return [(some_lora(index, 5), weight) for index, weight in enumerate(WEIGHTS, 1)]


def _trimmed(delta: torch.Tensor, density: float) -> torch.Tensor:
    count = max(1, round(density * delta.numel()))
    threshold = delta.abs().flatten().sort(descending=True).values[count - 1]
    return torch.where(delta.abs() >= threshold * (1 - 1e-6), delta, 0.0)


def _ties(deltas: list[torch.Tensor], density: float) -> torch.Tensor:
    """Algorithm 1 of the paper, one number after the other."""
    trimmed = torch.stack([_trimmed(delta, density) for delta in deltas])
    elected = trimmed.sum(dim=0).sign()
    agree = (trimmed.sign() == elected) & (trimmed != 0)
    return torch.where(agree, trimmed, 0.0).sum(dim=0) / agree.sum(dim=0).clamp(min=1)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_ties_trims_elects_and_takes_the_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, density: float, in_pieces: bool
) -> None:
    if in_pieces:
        monkeypatch.setattr(lowrank, "KEEP_BYTES", 0)
        monkeypatch.setattr(lowrank, "CHUNK_BYTES", 999)
    loras = _loras()
    merged = merge(tmp_path, loras, "ties", rank=256, density=density)
    for name, shape in SHAPES.items():
        deltas = [weight * adapters.dense(tensors, name, shape) for tensors, weight in loras]
        assert relative(merged.delta(name), _ties(deltas, density)) < 1e-5
        assert merged.error(name) < 1e-6


def test_ties_of_a_low_rank_states_its_error(tmp_path: Path) -> None:
    loras = _loras()
    merged = merge(tmp_path, loras, "ties", rank=4, density=0.3)
    for name, shape in SHAPES.items():
        expected = _ties([w * adapters.dense(tensors, name, shape) for tensors, w in loras], 0.3)
        values = torch.linalg.svdvals(expected.flatten(1))
        found = relative(merged.delta(name), expected)
        assert merged.error(name) == pytest.approx(found, rel=1e-4)
        assert found == pytest.approx(float(values[4:].norm() / values.norm()), rel=0.02)


def test_dare_keeps_numbers_by_chance_and_makes_them_larger(tmp_path: Path) -> None:
    lora = some_lora(1, 5)
    merged = merge(tmp_path, [(lora, 0.8)], "dare", rank=256, density=0.3)
    kept, total = 0, 0
    for name, shape in SHAPES.items():
        exact = 0.8 * adapters.dense(lora, name, shape)
        ratio = merged.delta(name) / exact
        is_kept = ratio > 1
        assert torch.allclose(ratio[is_kept], torch.tensor(1 / 0.3, dtype=torch.float64), rtol=1e-2)
        assert merged.delta(name)[~is_kept].abs().max() < 1e-5 * exact.abs().max() * 10
        kept, total = kept + int(is_kept.sum()), total + ratio.numel()
    # Five standard deviations of a binomial distribution.
    assert kept / total == pytest.approx(0.3, abs=5 * (0.21 / total) ** 0.5)


def test_dare_has_the_sum_as_its_mean(tmp_path: Path) -> None:
    loras = [(tensors, weight) for tensors, weight in _loras()[:2]]
    runs = [merge(tmp_path, loras, "dare", rank=256, density=0.5, seed=seed) for seed in range(12)]
    mean = torch.stack([run.delta(LINEAR) for run in runs]).mean(dim=0)
    single = relative(runs[0].delta(LINEAR), exact_sum(loras, LINEAR))
    assert relative(mean, exact_sum(loras, LINEAR)) == pytest.approx(single / 12**0.5, rel=0.15)


def test_what_dare_drops_follows_from_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loras = _loras()[:2]
    first = merge(tmp_path, loras, "dare", rank=256, seed=3)
    other = merge(tmp_path, loras, "dare", rank=256, seed=4)
    assert relative(other.delta(LINEAR), first.delta(LINEAR)) > 0.1
    # Fewer modules beside it, other pieces, one thread.
    monkeypatch.setattr(lowrank, "KEEP_BYTES", 0)
    monkeypatch.setattr(lowrank, "CHUNK_BYTES", 999)
    monkeypatch.setattr("kernel.engines.factors.workers.cores", lambda: 1)
    alone = [({key: each for key, each in tensors.items() if LINEAR in key}, w) for tensors, w in loras]
    again = merge(tmp_path, alone, "dare", rank=256, seed=3)
    assert relative(again.delta(LINEAR), first.delta(LINEAR)) < 1e-5


def test_two_loras_drop_other_numbers(tmp_path: Path) -> None:
    lora = some_lora(1, 5)
    merged = merge(tmp_path, [(lora, 0.5), (lora, 0.5)], "dare", rank=256, density=0.5)
    ratio = merged.delta(LINEAR) / adapters.dense(lora, LINEAR)
    assert {round(float(each)) for each in ratio.flatten()} == {0, 1, 2}
