"""What denoisers are to say, against diffusers, and the error of the picture that follows from theirs."""

import pytest
import torch
from diffusers import DDPMScheduler

from trainer.objective.noise_schedule import scaled_linear
from trainer.objective.objective import Objective
from trainer.objective.prediction import PREDICTIONS, Epsilon, Flow, Velocity
from trainer.objective.process import Diffusion, Process, StraightLine

#: The picture from what was said, for x = a·x₀ + b·ε: the inverse of each target, as the papers have it.
PICTURE = {
    "epsilon": lambda x, said, a, b: (x - b * said) / a,
    "v": lambda x, said, a, b: a * x - b * said,
    "flow": lambda x, said, a, b: x - b * said,
}


def processes() -> dict[str, Process]:
    return {"epsilon": Diffusion(scaled_linear()), "v": Diffusion(scaled_linear()), "flow": StraightLine()}


def test_noisy_pictures_and_velocities_are_those_of_diffusers() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(4, 4, 8, 8, generator=generator)
    noise = torch.randn(4, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([0, 17, 500, 999])
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    draw = Objective(Diffusion(scaled_linear()), Velocity()).at(clean, noise, timesteps)
    torch.testing.assert_close(draw.noisy, theirs.add_noise(clean, noise, timesteps), rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(
        draw.target, theirs.get_velocity(clean, noise, timesteps), rtol=1e-5, atol=2e-6
    )
    assert torch.equal(
        Objective(Diffusion(scaled_linear()), Epsilon()).at(clean, noise, timesteps).target, noise
    )


def test_a_flow_goes_straight_from_the_picture_to_the_noise() -> None:
    clean, noise = torch.full((3, 1, 2, 2), 2.0), torch.full((3, 1, 2, 2), -1.0)
    draw = Objective(StraightLine(), Flow()).at(clean, noise, torch.tensor([0.0, 250.0, 1000.0]))
    assert draw.noisy[:, 0, 0, 0].tolist() == [2.0, 1.25, -1.0]
    assert torch.equal(draw.target, torch.full((3, 1, 2, 2), -3.0))


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_gain_is_the_error_said_over_the_error_of_the_picture(name: str) -> None:
    prediction, process = PREDICTIONS[name], processes()[name]
    generator = torch.Generator().manual_seed(2)
    clean, noise, wrong = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    for timestep in (3, 400, 990):
        a, b = (share.squeeze() for share in process.shares(torch.tensor([timestep])))
        said = prediction.target(clean, noise, a, b) + wrong
        picture = PICTURE[name](a * clean + b * noise, said, a, b)
        ratio = wrong.square().sum() / (picture - clean).square().sum()
        assert float(prediction.gain((a / b) ** 2)) == pytest.approx(float(ratio), rel=1e-9)
