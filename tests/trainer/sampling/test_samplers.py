"""Every sampler against the scheduler of diffusers that is configured alike, on a toy model."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from contract.errors import InvalidParams
from contract.methods.training.sampling import Sampler, Sampling
from trainer.objective.noise_schedule import scaled_linear, zero_terminal_snr
from trainer.objective.prediction import PREDICTIONS
from trainer.sampling.estimate import ESTIMATES
from trainer.sampling.grid import Share, diffusion_grid, flow_grid
from trainer.sampling.process import Process, make_latents
from trainer.sampling.samplers import SAMPLERS

SHAPE = (1, 4, 3, 5)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KEPT = scaled_linear().alphas_cumprod
ZERO_SNR = zero_terminal_snr(scaled_linear()).alphas_cumprod
NAMES = {"epsilon": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}


def toy(x: torch.Tensor, timestep: float) -> torch.Tensor:
    """Says something else everywhere, and something of the same size."""
    return torch.tanh(0.7 * x + 0.3 * x.roll(1, -1) + timestep / 1000) + 0.1 * x


def noises(seed: int = 7) -> Callable[[], torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=source)


def ours(process: Process, sampler: Sampler, steps: int) -> torch.Tensor:
    return make_latents(process, sampler, steps, noises(), toy)


def theirs(scheduler: Any, steps: int, **options: Any) -> torch.Tensor:
    """The loop that pipelines of diffusers have."""
    source = torch.Generator().manual_seed(7)
    scheduler.set_timesteps(steps, **options)
    x = torch.randn(SHAPE, generator=source) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        said = toy(scheduler.scale_model_input(x, timestep), float(timestep))
        takes_source = isinstance(scheduler, EulerAncestralDiscreteScheduler)
        extra = {"generator": source} if takes_source else {}
        x = scheduler.step(said, timestep, x, **extra).prev_sample
    assert isinstance(x, torch.Tensor)
    return x


def alike(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Of the largest number; what grows in the toy grows alike."""
    scale = max(1.0, float(other.abs().max()))
    return bool((one - other).abs().max() <= tolerance * scale)


SCHEDULERS: dict[Sampler, Callable[[str], Any]] = {
    "ddim": lambda name: DDIMScheduler(
        **BETAS, prediction_type=name, clip_sample=False, steps_offset=1, set_alpha_to_one=True
    ),
    "euler": lambda name: EulerDiscreteScheduler(**BETAS, prediction_type=name),
    "euler_a": lambda name: EulerAncestralDiscreteScheduler(**BETAS, prediction_type=name),
    "dpmpp_2m": lambda name: DPMSolverMultistepScheduler(**BETAS, prediction_type=name),
}


@pytest.mark.parametrize("steps", [2, 7, 20, 33])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_sampler_gives_what_the_scheduler_of_diffusers_gives(
    sampler: Sampler, prediction: str, steps: int
) -> None:
    process = Process(prediction, KEPT)
    assert alike(ours(process, sampler, steps), theirs(SCHEDULERS[sampler](NAMES[prediction]), steps))


@pytest.mark.parametrize("steps", [2, 10, 25])
def test_models_that_end_in_noise_alone_have_trailing_steps(steps: int) -> None:
    scheduler = DDIMScheduler(
        **BETAS,
        prediction_type="v_prediction",
        clip_sample=False,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    process = Process("v", ZERO_SNR)
    # Theirs goes through betas in float32.
    assert alike(ours(process, "ddim", steps), theirs(scheduler, steps), 1e-4)
    for sampler in SAMPLERS:
        assert process.grid(sampler, steps).timesteps[0] == 999
        assert torch.isfinite(ours(process, sampler, steps)).all()
    assert alike(ours(process, "euler", steps), ours(process, "ddim", steps))


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m"])
def test_a_step_from_noise_alone_is_the_limit_of_those_from_almost_alone(sampler: Sampler) -> None:
    then = diffusion_grid(ZERO_SNR, 25, "trailing").shares[1]
    x = noises()()
    said = ESTIMATES["v"](x, toy(x, 999), Share(0.0, 1.0))
    one, other = (
        SAMPLERS[sampler].solver().step(x, said, Share(a, 1.0), then, noises(3)) for a in (0.0, 1e-9)
    )
    assert alike(one, other)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 28])
def test_flows_are_followed_as_the_scheduler_of_diffusers_does(steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.init_noise_sigma = 1.0
    scheduler.scale_model_input = lambda x, timestep: x
    sigmas = [1 - index / steps for index in range(steps)]
    process = Process("flow", shift=shift)
    expected = theirs(scheduler, steps, sigmas=sigmas) if steps > 1 else None
    for sampler in ("euler", "ddim"):
        found = ours(process, sampler, steps)
        assert expected is None or alike(found, expected)
    if expected is None:
        x = noises()()
        assert alike(found, x - toy(x, 1000.0))


def test_multistep_follows_flows_as_the_scheduler_of_diffusers_does() -> None:
    """With its own spacing: the formulas are what is compared."""
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0
    )
    scheduler.set_timesteps(12)
    sigmas = [float(each) for each in scheduler.sigmas]
    shares = [Share(1 - each, each) for each in sigmas]
    solver, x = SAMPLERS["dpmpp_2m"].solver(), noises()()
    for timestep, now, then in zip(scheduler.timesteps, shares, shares[1:], strict=False):
        said = ESTIMATES["flow"](x, toy(x, float(timestep)), now)
        x = solver.step(x, said, now, then, noises())
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0
    )
    assert alike(x, theirs(scheduler, 12), 2e-5)


def test_ancestral_steps_of_flows_are_refused() -> None:
    with pytest.raises(InvalidParams, match="ddim, euler, dpmpp_2m"):
        ours(Process("flow"), "euler_a", 4)


@pytest.mark.parametrize(
    ("sampler", "prediction"),
    [
        (sampler, prediction)
        for sampler, kind in SAMPLERS.items()
        for prediction in ESTIMATES
        if kind.flow or prediction != "flow"
    ],
)
def test_a_model_that_knows_the_picture_ends_in_it(sampler: Sampler, prediction: str) -> None:
    """Whatever the steps are: what it says is always right, so every sampler ends in the same."""
    picture = noises(1)().double()
    process = Process(prediction, None if prediction == "flow" else KEPT)
    grid = process.grid(sampler, 9)
    shares = dict(zip(grid.timesteps, grid.shares, strict=False))

    def knows(x: torch.Tensor, timestep: float) -> torch.Tensor:
        a, b = (torch.tensor(each, dtype=torch.float64) for each in shares[timestep])
        return PREDICTIONS[prediction].target(picture, (x - a * picture) / b, a, b)

    found = make_latents(process, sampler, 9, lambda: noises()().double(), knows)
    assert torch.allclose(found, picture, atol=1e-9)


def test_the_spacings_are_those_that_are_stated() -> None:
    assert diffusion_grid(KEPT, 4, "leading").timesteps == [751, 501, 251, 1]
    assert diffusion_grid(KEPT, 4, "linspace").timesteps == [999, 666, 333, 0]
    assert diffusion_grid(KEPT, 4, "rounded").timesteps == [999, 749, 500, 250]
    assert diffusion_grid(KEPT, 4, "trailing").timesteps == [999, 749, 499, 249]
    assert diffusion_grid(KEPT, 3, "linspace").timesteps == [999, 499.5, 0]
    assert flow_grid(4).timesteps == [1000, 750, 500, 250]
    assert flow_grid(2, 3.0).timesteps == [1000, 750]
    for spacing in ("leading", "linspace", "rounded", "trailing"):
        assert diffusion_grid(KEPT, 1, spacing).timesteps == [999]
        grid = diffusion_grid(KEPT, 1000, spacing)
        assert max(grid.timesteps) <= 999 and min(grid.timesteps) >= 0
        assert grid.shares[-1] == (1, 0)
        assert all(math.isclose(a**2 + b**2, 1) for a, b in grid.shares)


def test_every_sampler_of_the_settings_is_there() -> None:
    for name in SAMPLERS:
        assert Sampling(sampler=name).sampler == name
    assert set(Sampler.__args__) == set(SAMPLERS)  # type: ignore[attr-defined]
