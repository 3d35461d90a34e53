"""Optimizers: the rate of each component, and what their classes are given."""

import math

import pytest

from contract.methods.training.components import TEXT_ENCODERS
from contract.methods.training.optimizer import (
    Adafactor,
    AdamW,
    AdamWScheduleFree,
    CustomOptimizer,
    Lion,
    Optimizer,
    Prodigy,
    RAdamScheduleFree,
    SGDScheduleFree,
    is_schedule_free,
)
from contract.validation import Contradiction


def test_the_u_net_has_the_learning_rate_and_text_encoders_theirs() -> None:
    optimizer = AdamW(learning_rate=1e-3, text_encoder_rate=1e-4)
    assert [optimizer.rate_of(each) for each in ("unet", "te1", "te2")] == [1e-3, 1e-4, 1e-4]


def test_a_rate_of_its_own_wins_and_0_is_one() -> None:
    optimizer = AdamW(text_encoder_rate=1e-4, rates={"te2": 0, "unet": 5e-4})
    assert [optimizer.rate_of(each) for each in ("unet", "te1", "te2")] == [5e-4, 1e-4, 0]


def test_by_default_text_encoders_are_not_trained() -> None:
    assert AdamW().trains("unet")
    assert not AdamW().trains(*TEXT_ENCODERS)
    assert AdamW(rates={"te1": 1e-5}).trains(*TEXT_ENCODERS)


def test_a_class_is_given_what_is_its_own_and_no_rate() -> None:
    assert Lion(text_encoder_rate=1).arguments_of_class() == {"betas": (0.9, 0.99), "weight_decay": 0.1}


def test_what_is_off_is_said_as_the_classes_say_it() -> None:
    assert Adafactor().arguments_of_class()["beta1"] is None
    assert Adafactor(beta1=0.9).arguments_of_class()["beta1"] == 0.9
    assert Prodigy().arguments_of_class()["growth_rate"] == math.inf
    assert Prodigy(growth_rate=1.02).arguments_of_class()["growth_rate"] == 1.02


def test_a_class_of_a_library_is_given_its_arguments_alone() -> None:
    optimizer = CustomOptimizer(import_name="a.B", arguments={"k": [1, 2]})
    assert optimizer.arguments_of_class() == {"k": [1, 2]}


def test_prodigy_may_leave_components_out_but_has_one_rate_for_the_others() -> None:
    assert Prodigy(text_encoder_rate=1.0, rates={"te2": 0}).trains("te1")


@pytest.mark.parametrize("optimizer", [AdamWScheduleFree(), SGDScheduleFree(), RAdamScheduleFree()])
def test_schedule_free_is_known(optimizer: Optimizer) -> None:
    assert is_schedule_free(optimizer)
    assert not is_schedule_free(AdamW())


@pytest.mark.parametrize("value", [math.inf, math.nan, [0.9, -math.inf]])
def test_an_argument_is_a_number_that_json_can_say(value: float | list[float]) -> None:
    with pytest.raises(Contradiction) as caught:
        CustomOptimizer(import_name="a.B", arguments={"k": value})  # type: ignore[dict-item]
    assert caught.value.problems == (('arguments["k"]', "is no number that can be written down"),)
