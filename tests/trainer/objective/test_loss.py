"""Costs of errors, against their formulas in plain Python."""

import math
from collections.abc import Callable

import pytest
import torch

from tests.trainer.objective import by_hand
from trainer.objective.huber import HUBER_SCHEDULES, ConstantHuber, SnrHuber
from trainer.objective.loss import L1, L2, Huber, Loss, SmoothL1

TIMESTEPS = [0, 10, 500, 999]
ERRORS = [-3.0, -0.2, 0.0, 0.01, 1.5]
C, SCALE = 0.15, 0.7


def threshold(name: str, timestep: int) -> float:
    """δ as the reference trainer documents it; `scale` in all three, where it leaves it out of `snr`."""
    kept = by_hand.alphas_cumprod()[timestep]
    sigma = math.sqrt((1 - kept) / kept)
    return (
        SCALE
        * {
            "constant": C,
            "exponential": math.exp(timestep * math.log(C) / 1000),
            "snr": (1 - C) / (1 + sigma) ** 2 + C,
        }[name]
    )


def cost(loss: Loss) -> list[list[float]]:
    """Of every error at every timestep."""
    snr = torch.tensor([by_hand.snr(by_hand.alphas_cumprod()[t]) for t in TIMESTEPS], dtype=torch.float64)
    way = torch.tensor(TIMESTEPS, dtype=torch.float64) / 1000
    costs: list[list[float]] = loss.of(torch.tensor([ERRORS] * len(TIMESTEPS)), snr, way).tolist()
    return costs


def test_l2_is_the_square_and_l1_the_size() -> None:
    assert cost(L2())[0] == pytest.approx([error**2 for error in ERRORS])
    assert cost(L1())[0] == pytest.approx([abs(error) for error in ERRORS])


@pytest.mark.parametrize("name", HUBER_SCHEDULES)
@pytest.mark.parametrize(
    ("kind", "factor"), [(Huber, lambda delta: 2 * delta), (SmoothL1, lambda delta: 2.0)]
)
def test_huber_losses_by_timestep(
    name: str, kind: type[Huber] | type[SmoothL1], factor: Callable[[float], float]
) -> None:
    costs = cost(kind(HUBER_SCHEDULES[name](C, SCALE)))
    for row, timestep in zip(costs, TIMESTEPS, strict=True):
        delta = threshold(name, timestep)
        expected = [factor(delta) * (math.sqrt(e * e + delta * delta) - delta) for e in ERRORS]
        assert row == pytest.approx(expected, rel=2e-6, abs=1e-12)


def test_a_small_error_under_a_wide_threshold_is_not_lost() -> None:
    error = torch.tensor([[1e-4]])
    ones = torch.ones(1, dtype=torch.float64)
    assert Huber(ConstantHuber(10.0)).of(error, ones, ones).item() == pytest.approx(1e-8, rel=1e-5)


def test_the_snr_threshold_ends_at_c_in_noise_alone_and_at_one_without_noise() -> None:
    snr = torch.tensor([0.0, math.inf], dtype=torch.float64)
    assert SnrHuber(0.1).thresholds(snr, torch.zeros(2)).tolist() == pytest.approx([0.1, 1.0])
