"""The whole of it: a draw, a loss, a gradient, against numpy in float64."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from tests.trainer.objective import by_hand
from trainer.objective.huber import ExponentialHuber
from trainer.objective.loss import Huber
from trainer.objective.noise_schedule import scaled_linear, zero_terminal_snr
from trainer.objective.objective import Objective
from trainer.objective.prediction import Epsilon, Flow, Velocity
from trainer.objective.process import Diffusion, StraightLine
from trainer.objective.weighting import MinSnr


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=seeded(99))


def test_losses_and_gradients_are_those_of_the_formula() -> None:
    objective = Objective(
        Diffusion(scaled_linear()),
        Epsilon(),
        loss=Huber(ExponentialHuber(0.1)),
        weighting=MinSnr(Epsilon(), 5),
    )
    draw = objective.draw(latents(), seeded())
    said = torch.randn(4, 4, 8, 8, generator=seeded(5), requires_grad=True)
    losses = objective.losses(said, draw)
    losses.mean().backward()  # type: ignore[no-untyped-call]

    kept = np.array(by_hand.alphas_cumprod())[draw.timesteps.numpy()]
    snr = kept / (1 - kept)
    weight = np.minimum(snr, 5) / snr
    delta = (0.1 ** (draw.timesteps.numpy() / 1000))[:, None, None, None]
    error = said.detach().double().numpy() - draw.target.double().numpy()
    root = np.sqrt(error**2 + delta**2)
    expected = weight * (2 * delta * (root - delta)).mean(axis=(1, 2, 3))
    gradient = weight[:, None, None, None] * 2 * delta * error / root / error.size
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert said.grad is not None
    np.testing.assert_allclose(said.grad.numpy(), gradient, rtol=1e-5, atol=1e-9)


def test_the_signal_to_noise_ratio_is_that_of_diffusers() -> None:
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    timesteps = torch.tensor([0, 1, 400, 999])
    ours = Objective(Diffusion(scaled_linear()), Epsilon()).snr(timesteps)
    # Their table in float32 is 1e-4 off where there is nearly no noise.
    torch.testing.assert_close(ours.float(), compute_snr(theirs, timesteps), rtol=2e-4, atol=0)


def test_a_draw_depends_on_its_generator_alone() -> None:
    objective = Objective(Diffusion(scaled_linear()), Velocity(), noise_offset=0.1)
    one = objective.draw(latents(), seeded())
    torch.manual_seed(123)
    other = objective.draw(latents(), seeded())
    assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    assert not torch.equal(one.noisy, objective.draw(latents(), seeded(4)).noisy)


def test_a_noise_offset_changes_neither_the_timesteps_nor_the_rest_of_the_noise() -> None:
    plain = Objective(Diffusion(scaled_linear()), Epsilon()).draw(latents(), seeded())
    offset = Objective(Diffusion(scaled_linear()), Epsilon(), noise_offset=0.2).draw(latents(), seeded())
    assert torch.equal(plain.timesteps, offset.timesteps)
    shift = (offset.target - plain.target).flatten(2)
    assert float(shift.std(dim=2).max()) < 1e-6
    assert float(shift.abs().max()) > 0.01


def test_latents_of_half_precision_are_mixed_in_single() -> None:
    objective = Objective(Diffusion(scaled_linear()), Velocity())
    draw = objective.draw(latents().bfloat16(), seeded())
    exact = objective.draw(latents().bfloat16().float(), seeded())
    assert draw.noisy.dtype == draw.target.dtype == torch.float32
    assert torch.equal(draw.noisy, exact.noisy)
    assert objective.losses(draw.target.bfloat16(), draw).dtype == torch.float32


def test_the_right_answer_costs_nothing() -> None:
    objective = Objective(StraightLine(), Flow(), weighting=MinSnr(Flow()))
    draw = objective.draw(latents(), seeded())
    assert objective.losses(draw.target, draw).tolist() == [0.0] * 4


def test_at_the_last_timestep_with_zero_terminal_snr_only_noise_is_seen() -> None:
    objective = Objective(
        Diffusion(zero_terminal_snr(scaled_linear())), Velocity(), weighting=MinSnr(Velocity())
    )
    noise = torch.randn(1, 4, 8, 8, generator=seeded())
    draw = objective.at(latents(1), noise, torch.tensor([999]))
    assert torch.equal(draw.noisy, noise)
    torch.testing.assert_close(draw.target, -latents(1))
    assert objective.losses(torch.zeros_like(noise), draw).isfinite().all()
