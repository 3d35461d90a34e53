"""Which timesteps are drawn."""

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling

from trainer.objective.noise_schedule import scaled_linear
from trainer.objective.process import Diffusion, StraightLine
from trainer.objective.timesteps import TIMESTEPS, LogitNormal, Uniform, shifted


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uniform_timesteps_come_equally_often_from_the_first_to_the_last() -> None:
    drawn = Diffusion(scaled_linear()).draw(100_000, seeded())
    counts = torch.bincount(drawn // 100, minlength=10)
    assert len(counts) == 10
    # 10,000 in each tenth, with a standard deviation of 95.
    assert (counts - 10_000).abs().max() < 500
    assert (int(drawn.min()), int(drawn.max())) == (0, 999)
    assert drawn.dtype == torch.int64


def test_a_range_of_timesteps_is_kept_and_its_end_never_drawn() -> None:
    counts = torch.bincount(Diffusion(scaled_linear(), first=200, end=203).draw(3_000, seeded()))
    assert len(counts) == 203
    assert int(counts[:200].sum()) == 0
    # 1,000 of each, with a standard deviation of 26.
    assert (counts[200:] - 1_000).abs().max() < 130


def test_a_flow_keeps_its_range_too() -> None:
    drawn = StraightLine(Uniform(), first=200, end=300).draw(1_000, seeded())
    assert 200 <= float(drawn.min()) < 205
    assert 295 < float(drawn.max()) <= 300


def test_a_share_that_is_rounded_to_one_is_still_a_timestep() -> None:
    drawn = Diffusion(scaled_linear(), LogitNormal(mean=100)).draw(3, seeded())
    assert drawn.tolist() == [999, 999, 999]


def test_logit_normal_shares_are_those_of_diffusers() -> None:
    theirs = compute_density_for_timestep_sampling(
        "logit_normal", 20_000, logit_mean=0.3, logit_std=1.2, generator=seeded()
    )
    ours = LogitNormal(0.3, 1.2).draw(20_000, seeded(1))
    at = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    assert (torch.quantile(ours, at) - torch.quantile(theirs.double(), at)).abs().max() < 0.02


def test_the_logits_of_logit_normal_shares_are_normal() -> None:
    drawn = LogitNormal(mean=-0.5, deviation=0.7).draw(20_000, seeded())
    logits = torch.log(drawn / (1 - drawn))
    assert float(logits.mean()) == pytest.approx(-0.5, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.7, abs=0.02)


def test_the_shift_is_that_of_diffusers() -> None:
    theirs = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0).sigmas
    ours = shifted(torch.arange(1000, 0, -1, dtype=torch.float64) / 1000, 3.0)
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", TIMESTEPS)
def test_every_distribution_is_shifted_towards_noise(name: str) -> None:
    plain = TIMESTEPS[name]().draw(1_000, seeded())
    assert torch.equal(TIMESTEPS[name](shift=1.0).draw(1_000, seeded()), plain)  # type: ignore[call-arg]
    moved = TIMESTEPS[name](shift=3.0).draw(1_000, seeded())  # type: ignore[call-arg]
    expected = [3 * u / (1 + 2 * u) for u in plain.tolist()]
    assert moved.tolist() == pytest.approx(expected, rel=1e-12)
    assert math.isclose(float(shifted(torch.tensor(1.0), 3.0)), 1.0)
