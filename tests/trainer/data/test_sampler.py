"""The order of a run follows from its seed and the position alone, and every sample comes once an epoch."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.rules.buckets import Size
from trainer.data.sampler import Sampler

SIZES = [Size(512, 512), Size(384, 640), Size(640, 384)]


@st.composite
def samplers(draw: st.DrawFn, *, shuffle: bool = True) -> tuple[dict[Size, list[int]], list[int], Sampler]:
    """Buckets, repeats, and the sampler of them."""
    counts = draw(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any))
    repeats = draw(st.lists(st.integers(1, 4), min_size=sum(counts), max_size=sum(counts)))
    numbers = iter(range(sum(counts)))
    buckets = {size: list(islice(numbers, count)) for size, count in zip(SIZES, counts, strict=True)}
    made = Sampler(
        buckets,
        repeats,
        batch_size=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 9)),
        accumulation=draw(st.integers(1, 4)),
        shuffle=shuffle,
    )
    return buckets, repeats, made


def like(made: Sampler) -> Sampler:
    """The same as a new process would make it."""
    buckets = {size: sorted({item.picture for item in items}) for size, items in made._samples.items()}
    repeats = Counter(item.picture for items in made._samples.values() for item in items)
    return Sampler(
        buckets,
        [repeats[number] for number in range(len(repeats))],
        batch_size=made._batch_size,
        seed=made._seed,
        accumulation=made._accumulation,
    )


@given(samplers(), st.integers(0, 5))
def test_every_picture_comes_as_often_as_it_is_repeated_in_batches_of_one_size(
    drawn: tuple[dict[Size, list[int]], list[int], Sampler], epoch: int
) -> None:
    buckets, repeats, made = drawn
    batches = made.batches(epoch)
    assert len(batches) == made.batches_per_epoch
    assert [batch.position for batch in batches] == list(range(len(batches)))
    items = [item for batch in batches for item in batch.items]
    assert len(set(items)) == len(items)
    assert Counter(item.picture for item in items) == Counter(dict(enumerate(repeats)))
    for batch in batches:
        assert 1 <= len(batch.items) <= made._batch_size
        assert {item.picture for item in batch.items} <= set(buckets[batch.bucket])


@given(samplers(), st.integers(0, 60), st.integers(0, 60))
def test_going_on_anywhere_gives_what_would_have_come(
    drawn: tuple[dict[Size, list[int]], list[int], Sampler], first: int, count: int
) -> None:
    made = drawn[2]
    whole = list(islice(made.since(0), first + count))
    assert list(islice(like(made).since(first), count)) == whole[first:]


@given(samplers(), st.lists(st.integers(0, 60), max_size=10))
def test_a_batch_does_not_depend_on_what_was_asked_for_before(
    drawn: tuple[dict[Size, list[int]], list[int], Sampler], numbers: list[int]
) -> None:
    made = drawn[2]
    for number in numbers:
        assert made.at(number) == like(made).at(number)


@given(samplers(), st.integers(0, 100))
def test_windows_follow_each_other_and_end_with_their_epoch(
    drawn: tuple[dict[Size, list[int]], list[int], Sampler], number: int
) -> None:
    made = drawn[2]
    window = made.window(number)
    start = made.first_of_step(window.step)
    assert start <= number < start + window.size
    assert start % made.batches_per_epoch == window.first
    after = made.window(start + window.size)
    assert after.step == window.step + 1
    assert made.first_of_step(after.step) == start + window.size
    ends = window.first + window.size == made.batches_per_epoch
    assert ends or window.size == made._accumulation


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def items(seed: int, epoch: int) -> list[object]:
        made = Sampler({SIZES[0]: range(50)}, [1] * 50, batch_size=1, seed=seed)
        return [batch.items for batch in made.batches(epoch)]

    assert items(1, 0) == items(1, 0)
    assert items(1, 0) != items(1, 1)
    assert items(1, 0) != items(2, 0)


def test_buckets_are_mixed_anew_in_every_epoch() -> None:
    made = Sampler({SIZES[0]: range(20), SIZES[1]: range(20, 40)}, [1] * 40, batch_size=2, seed=3)
    orders = [[batch.bucket for batch in made.batches(epoch)] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert all(order not in (sorted(order), sorted(order, reverse=True)) for order in orders)


def test_pictures_meet_others_in_every_epoch() -> None:
    made = Sampler({SIZES[0]: range(20)}, [1] * 20, batch_size=2, seed=3)
    pairs = [{frozenset(batch.items) for batch in made.batches(epoch)} for epoch in range(2)]
    assert pairs[0] != pairs[1]


@given(samplers(shuffle=False))
def test_without_shuffling_every_epoch_has_the_order_of_the_plan(
    drawn: tuple[dict[Size, list[int]], list[int], Sampler],
) -> None:
    made = drawn[2]
    assert [batch.items for batch in made.batches(0)] == [batch.items for batch in made.batches(7)]
    for size, items in made._samples.items():
        got = [item for batch in made.batches(0) if batch.bucket == size for item in batch.items]
        assert got == items


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Sampler({}, [], batch_size=1, seed=0)
