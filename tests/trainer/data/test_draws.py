"""Chance has names, and the same name gives the same everywhere."""

from trainer.data.draws import draws


def test_draws_are_known_by_their_whole_name_in_every_process() -> None:
    assert draws(1, "a", 2).random() == draws(1, "a", 2).random() == 0.30845997887135224
    names: list[tuple[int | str, ...]] = [("a", 2), ("a", 3), ("b", 2), ("a2",)]
    assert len({draws(1, *name).random() for name in names} | {draws(2, "a", 2).random()}) == 5
