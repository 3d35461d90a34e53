"""Weights to train on, and weights to use."""

import pytest
import torch

from tests.trainer.optimizers.small import SETTINGS, Training
from trainer.optimizers import evaluated, is_schedule_free

FREE = ["adamw_schedule_free", "sgd_schedule_free", "radam_schedule_free"]


def numbers(training: Training) -> list[torch.Tensor]:
    return [each.detach().clone() for each in training.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize("name", FREE)
def test_a_look_at_the_average_changes_nothing_of_the_run(name: str) -> None:
    undisturbed, disturbed = Training(SETTINGS[name]), Training(SETTINGS[name])
    # In the first steps the average is where they went, and RAdam goes nowhere.
    undisturbed.steps(8)
    disturbed.steps(8)
    for _ in range(6):
        undisturbed.steps(1)
        disturbed.steps(1)
        before = numbers(disturbed)
        with evaluated(disturbed.optimizer):
            assert not same(before, numbers(disturbed))
        assert same(before, numbers(disturbed))
    assert same(numbers(undisturbed), numbers(disturbed))


@pytest.mark.parametrize("name", FREE)
def test_after_an_error_within_it_the_run_goes_on_where_it_was(name: str) -> None:
    training = Training(SETTINGS[name])
    training.steps(3)
    before = numbers(training)
    with pytest.raises(KeyError), evaluated(training.optimizer):
        raise KeyError
    assert same(before, numbers(training))
    training.steps(1)


def test_the_average_is_that_of_the_paper() -> None:
    # z and x in float64, after Defazio and others, arXiv 2405.15682, algorithm of SGD: y = (1 − β)·z + β·x.
    training = Training(SETTINGS["sgd_schedule_free"])
    group = training.optimizer.param_groups[1]
    lr, beta, decay = group["lr"], group["momentum"], group["weight_decay"]
    z = x = training.encoder.detach().double()
    wanted = training.wanted[1].double()
    for step in range(1, 11):
        y = (1 - beta) * z + beta * x
        z = z - lr * (2 * (y - wanted) / y.numel() + decay * y)
        x = (1 - 1 / step) * x + z / step
        training.steps(1)
    with evaluated(training.optimizer):
        torch.testing.assert_close(training.encoder.detach().double(), x, rtol=1e-5, atol=1e-6)


def test_other_optimizers_have_one_set_of_weights() -> None:
    training = Training(SETTINGS["adamw"])
    training.steps(2)
    before = numbers(training)
    assert not is_schedule_free(training.optimizer)
    with evaluated(training.optimizer):
        assert same(before, numbers(training))


def test_it_is_not_entered_twice() -> None:
    training = Training(SETTINGS["adamw_schedule_free"])
    with (
        evaluated(training.optimizer),
        pytest.raises(RuntimeError, match="evaluation mode already"),
        evaluated(training.optimizer),
    ):
        pass
