"""Lion, against the lines of its paper in numpy's float64."""

import numpy as np
import pytest
import torch

from trainer.optimizers.lion import Lion


def test_steps_are_those_of_the_paper() -> None:
    generator = np.random.default_rng(0)
    theta, momentum = generator.normal(size=7), np.zeros(7)
    parameter = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = Lion([parameter], lr=0.03, betas=(0.8, 0.95), weight_decay=0.2)
    for _ in range(12):
        gradient = generator.normal(size=7)
        update = np.sign(0.8 * momentum + (1 - 0.8) * gradient)
        theta = theta - 0.03 * (update + 0.2 * theta)
        momentum = 0.95 * momentum + (1 - 0.95) * gradient
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-12)
    np.testing.assert_allclose(optimizer.state[parameter]["exp_avg"].numpy(), momentum, rtol=1e-12)


def test_parameters_without_a_gradient_stay_as_they_are() -> None:
    moved, still = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = Lion([moved, still], lr=0.1, weight_decay=1.0)
    moved.grad = torch.ones(2)
    assert optimizer.step(lambda: 3.5) == 3.5
    assert still.tolist() == [1.0, 1.0]
    assert moved.tolist() == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize("wrong", [{"betas": (0.9, 1.0)}, {"lr": -1.0}, {"weight_decay": -0.1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Lion([torch.nn.Parameter(torch.ones(1))], **wrong)  # type: ignore[arg-type]
