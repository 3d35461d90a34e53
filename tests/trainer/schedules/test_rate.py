"""Learning rates, against formulas in plain Python and against transformers."""

import math
from collections.abc import Callable

import pytest
import torch
import transformers

from contract.methods.training.schedule import (
    Constant,
    Cosine,
    CosineWithRestarts,
    Linear,
    Polynomial,
    Schedule,
)
from trainer.schedules import factor, rate, set_rates
from trainer.schedules.rate import curve_of

TOTAL = 40
WARM_UP = 7
#: name and arguments of transformers' schedule → ours.
PAIRS: dict[str, tuple[dict[str, float], Callable[[int], Schedule]]] = {
    "constant_with_warmup": ({}, lambda steps: Constant(warmup_steps=steps)),
    "linear": ({}, lambda steps: Linear(warmup_steps=steps)),
    "cosine": ({}, lambda steps: Cosine(warmup_steps=steps)),
    "cosine_with_restarts": (
        {"num_cycles": 3},
        lambda steps: CosineWithRestarts(cycles=3, warmup_steps=steps),
    ),
    "polynomial": (
        {"power": 2.0, "lr_end": 0.1},
        lambda steps: Polynomial(power=2.0, end=0.1, warmup_steps=steps),
    ),
    "cosine_with_min_lr": ({"min_lr": 0.2}, lambda steps: Cosine(end=0.2, warmup_steps=steps)),
}


def theirs(name: str, arguments: dict[str, float], warm_up: int) -> list[float]:
    """The rates of every step and of the one after the last, for a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = transformers.get_scheduler(
        name, optimizer, warm_up, TOTAL, scheduler_specific_kwargs=arguments
    )
    rates = []
    for _ in range(TOTAL + 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("warm_up", [0, WARM_UP])
def test_after_the_warm_up_rates_are_those_of_transformers(name: str, warm_up: int) -> None:
    arguments, ours = PAIRS[name]
    expected = theirs(name, arguments, warm_up)
    rates = [factor(ours(warm_up), step, TOTAL) for step in range(TOTAL + 1)]
    assert rates[warm_up:] == pytest.approx(expected[warm_up:], rel=1e-12, abs=1e-15)


def test_curves_are_their_formulas() -> None:
    for p in (0.0, 0.2, 0.5, 0.9, 1.0):
        assert curve_of(Constant()).at(p) == 1
        assert curve_of(Linear(end=0.1)).at(p) == pytest.approx(1 - 0.9 * p)
        assert curve_of(Cosine(end=0.1)).at(p) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * p)))
        assert curve_of(Polynomial(power=3, end=0.1)).at(p) == pytest.approx(0.1 + 0.9 * (1 - p) ** 3)
    restarts = curve_of(CosineWithRestarts(cycles=4, end=0.1))
    assert [restarts.at(p) for p in (0, 0.125, 0.25, 0.375, 0.5)] == pytest.approx([1, 0.55, 1, 0.55, 1])
    assert restarts.at(0.24999) == pytest.approx(0.1, abs=1e-6)
    assert restarts.at(1.0) == pytest.approx(0.1)


def test_the_warm_up_rises_in_equal_steps_and_teaches_from_the_first() -> None:
    schedule = Constant(warmup_steps=4)
    assert [factor(schedule, step, 10) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_a_share_of_warm_up_is_a_share_of_all_steps() -> None:
    assert [factor(Linear(warmup_share=0.1), step, 100) for step in range(101)] == [
        factor(Linear(warmup_steps=10), step, 100) for step in range(101)
    ]


def test_a_run_may_be_shorter_than_its_warm_up() -> None:
    schedule = Cosine(warmup_steps=10)
    assert [factor(schedule, step, 3) for step in range(3)] == pytest.approx([1 / 11, 2 / 11, 3 / 11])


def test_beyond_the_end_the_rate_stays_where_it_ended() -> None:
    assert factor(Linear(end=0.3), 50, 10) == pytest.approx(0.3)


def test_resumed_with_a_longer_schedule_the_rate_is_that_of_the_longer_run() -> None:
    schedule = Cosine(warmup_steps=2)
    longer = [rate(1e-4, schedule, step, 40) for step in range(40)]
    resumed = [rate(1e-4, schedule, step, 20) for step in range(10)]
    resumed += [rate(1e-4, schedule, step, 40) for step in range(10, 40)]
    assert resumed[10:] == longer[10:]


def test_every_group_gets_its_share_of_its_own_rate() -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr, "initial_lr": lr} for lr in (1.0, 0.5)
    ]
    optimizer = torch.optim.SGD(groups)
    set_rates(optimizer, 0.1)
    set_rates(optimizer, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.2])
