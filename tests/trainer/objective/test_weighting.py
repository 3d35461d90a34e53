"""Weights of timesteps, against the formulas of their papers in plain Python."""

import math

import pytest
import torch

from contract.errors import InvalidParams
from tests.trainer.objective import by_hand
from trainer.objective.prediction import Epsilon, Flow, Velocity
from trainer.objective.weighting import Debiased, Even, LikeEpsilon, MinSnr

SNRS = [by_hand.snr(kept) for kept in by_hand.alphas_cumprod()]


def weights(weighting: Even | MinSnr | Debiased | LikeEpsilon, snrs: list[float] = SNRS) -> list[float]:
    return weighting.weights(torch.tensor(snrs, dtype=torch.float64)).tolist()


def test_even_weights_are_one() -> None:
    assert set(weights(Even())) == {1.0}


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_of_epsilon(gamma: float) -> None:
    assert weights(MinSnr(Epsilon(), gamma)) == pytest.approx([min(s, gamma) / s for s in SNRS])


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_of_v(gamma: float) -> None:
    assert weights(MinSnr(Velocity(), gamma)) == pytest.approx([min(s, gamma) / (s + 1) for s in SNRS])


def test_min_snr_of_v_does_not_learn_from_noise_alone() -> None:
    assert weights(MinSnr(Velocity()), [0.0]) == [0.0]


def test_min_snr_of_flows_is_the_same_weight_of_the_picture() -> None:
    sigmas = [0.1, 0.5, 0.9]
    snrs = [((1 - sigma) / sigma) ** 2 for sigma in sigmas]
    expected = [min(snr, 5) * sigma**2 for snr, sigma in zip(snrs, sigmas, strict=True)]
    assert weights(MinSnr(Flow(), 5), snrs) == pytest.approx(expected)


def test_debiased_weights() -> None:
    bounded = [min(s, 1000) for s in SNRS]
    assert weights(Debiased(Epsilon())) == pytest.approx([1 / math.sqrt(s) for s in bounded])
    assert weights(Debiased(Velocity())) == pytest.approx([1 / (s + 1) for s in bounded])


def test_debiased_weights_stay_finite_without_noise() -> None:
    assert weights(Debiased(Epsilon()), [math.inf]) == pytest.approx([1 / math.sqrt(1000)])


def test_debiased_weights_of_flows_are_refused() -> None:
    with pytest.raises(InvalidParams, match="not defined for `flow`") as refused:
        Debiased(Flow(), "$.params.settings.objective.weighting")
    assert refused.value.where == "$.params.settings.objective.weighting"


def test_v_weighted_like_epsilon() -> None:
    expected = [min(s, 5) / (s + 1) * min(s, 1000) / (min(s, 1000) + 1) for s in SNRS]
    assert weights(LikeEpsilon(MinSnr(Velocity(), 5))) == pytest.approx(expected)
