"""Schedules: how long the rate rises."""

from contract.methods.training.schedule import Cosine


def test_a_warm_up_in_steps_is_as_long_as_it_says() -> None:
    assert Cosine(warmup_steps=100).warmup(1000) == 100


def test_a_warm_up_as_a_share_is_of_all_steps_rounded_down() -> None:
    assert Cosine(warmup_share=0.05).warmup(1019) == 50


def test_without_a_warm_up_the_rate_is_there_from_the_first_step() -> None:
    assert Cosine().warmup(1000) == 0
