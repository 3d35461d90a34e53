"""Batches on threads: their order, their sizes, and how they end early. Both ways of sharing the work."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from kernel.engines import pipeline

#: (preparers, runners): each thread takes whole batches; many prepare for few.
WAYS = [(2, 2), (4, 1), (4, 2)]

both_ways = pytest.mark.parametrize(("preparers", "runners"), WAYS)


def sums(
    plan: Sequence[range], preparers: int, runners: int, stop: Future[Any] | None = None
) -> list[tuple[range, int]]:
    """Each batch with the sum of the squares of its indices."""
    found = pipeline.stream(plan, _square, _sum, preparers=preparers, runners=runners, stop=stop or Future())
    return list(found)


def _sum(items: list[int]) -> int:
    return sum(items)


def _square(index: int) -> int:
    return index**2


@both_ways
def test_results_come_in_the_order_of_the_plan(preparers: int, runners: int) -> None:
    plan = list(pipeline.batches(100, 7, runners))
    assert sums(plan, preparers, runners) == [(batch, sum(i**2 for i in batch)) for batch in plan]


@both_ways
def test_what_preparing_raises_is_raised(preparers: int, runners: int) -> None:
    def prepare(index: int) -> int:
        raise KeyError(index)

    found = pipeline.stream([range(3)], prepare, _sum, preparers=preparers, runners=runners, stop=Future())
    with pytest.raises(KeyError):
        next(found)


@both_ways
def test_a_stop_ends_it_without_waiting_for_what_is_under_way(preparers: int, runners: int) -> None:
    stop: Future[None] = Future()
    stuck = threading.Event()

    def prepare(index: int) -> int:
        if index == 5:
            stop.set_result(None)
        if index >= 5:
            assert stuck.wait(10)
        return index

    plan = [range(start, start + 5) for start in range(0, 50, 5)]
    found = pipeline.stream(plan, prepare, _sum, preparers=preparers, runners=runners, stop=stop)
    assert len(list(found)) <= 1
    stuck.set()


def test_after_a_stop_no_further_item_of_a_batch_is_prepared() -> None:
    stop: Future[None] = Future()
    prepared: list[int] = []

    def prepare(index: int) -> int:
        prepared.append(index)
        if index == 3:
            stop.set_result(None)
        return index

    assert list(pipeline.stream([range(9)], prepare, _sum, preparers=1, runners=1, stop=stop)) == []
    assert prepared == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "size", "runners"), [(100, 8, 2), (5, 8, 2), (1, 1, 4), (64, 8, 1)])
def test_batches_cover_everything_once_and_shrink_towards_the_end(
    count: int, size: int, runners: int
) -> None:
    plan = list(pipeline.batches(count, size, runners))
    assert [index for batch in plan for index in batch] == list(range(count))
    sizes = [len(batch) for batch in plan]
    assert max(sizes) <= size
    assert sizes == sorted(sizes, reverse=True)
