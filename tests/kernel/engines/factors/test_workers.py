"""Small pieces of work on threads: in order, bounded, and over at once."""

import threading

import pytest
import torch

from kernel.engines.factors.workers import Workers


def test_results_come_in_order_from_several_threads() -> None:
    met = threading.Barrier(2, timeout=10)

    def make(number: int) -> int:
        if number < 2:
            met.wait()  # both have to be under way at once
        return number * number

    with Workers(2) as workers:
        assert list(workers.map(make, range(100))) == [number * number for number in range(100)]


def test_few_pieces_are_under_way_at_a_time() -> None:
    begun: list[int] = []
    with Workers(2) as workers:
        for number, _ in enumerate(workers.map(begun.append, range(100))):
            assert len(begun) <= number + 2 * 3


def test_a_failure_is_raised_in_its_place() -> None:
    def make(number: int) -> float:
        return 1 / (3 - number)

    with Workers(2) as workers:
        results = workers.map(make, range(10))
        assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_leaving_ends_what_is_under_way_and_starts_nothing_more() -> None:
    begun: list[int] = []
    with Workers(1) as workers:
        results = workers.map(begun.append, range(1000))
        next(results)
    count = len(begun)
    assert count < 10
    assert len(begun) == count


def test_every_worker_computes_on_one_thread_and_others_are_left_alone() -> None:
    before = torch.get_num_threads()
    with Workers(2) as workers:
        assert set(workers.map(lambda _: torch.get_num_threads(), range(8))) == {1}
        assert torch.get_num_threads() == before
        new: list[int] = []
        thread = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert new == [before]
