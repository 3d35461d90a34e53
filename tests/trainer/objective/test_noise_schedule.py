"""The tables of noise, against plain Python and against diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from tests.trainer.objective import by_hand
from trainer.objective.noise_schedule import scaled_linear, zero_terminal_snr


def test_the_schedule_is_the_product_of_the_paper() -> None:
    assert scaled_linear().alphas_cumprod.tolist() == pytest.approx(by_hand.alphas_cumprod(), rel=1e-12)


def test_the_schedule_is_that_of_diffusers() -> None:
    theirs = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    assert (scaled_linear().alphas_cumprod - theirs.alphas_cumprod).abs().max() < 1e-6


def test_after_the_rescale_the_last_timestep_is_noise_alone_and_the_first_is_as_it_was() -> None:
    before, after = scaled_linear(), zero_terminal_snr(scaled_linear())
    assert after.ends_in_noise
    assert not before.ends_in_noise
    assert float(after.alphas_cumprod[0]) == pytest.approx(float(before.alphas_cumprod[0]), rel=1e-15)
    assert after.alphas_cumprod.tolist() == pytest.approx(
        by_hand.zero_terminal(by_hand.alphas_cumprod()), rel=1e-12, abs=1e-18
    )


def test_the_rescale_is_that_of_diffusers() -> None:
    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    assert (zero_terminal_snr(scaled_linear()).alphas_cumprod - theirs.alphas_cumprod).abs().max() < 1e-6


def test_other_numbers_of_timesteps_begin_and_end_at_the_same_betas() -> None:
    schedule = scaled_linear(10)
    assert schedule.timesteps == 10
    assert schedule.alphas_cumprod.tolist() == pytest.approx(by_hand.alphas_cumprod(10), rel=1e-12)
    assert schedule.alphas_cumprod.dtype == torch.float64
