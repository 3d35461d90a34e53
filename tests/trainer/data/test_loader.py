"""Batches come in order, are loaded ahead within a bound, and errors arrive where their batch would have."""

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from trainer.data.loader import Loader

WAIT = 20.0


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_results_come_in_the_order_of_the_batches_whichever_is_loaded_first() -> None:
    second = threading.Event()

    def load(number: int) -> int:
        if number == 0:
            assert second.wait(WAIT)
        if number == 1:
            second.set()
        return number * 10

    with Loader(range(20), load) as loader:
        assert list(loader) == [number * 10 for number in range(20)]
        assert loader.taken == 20


def test_what_comes_next_is_loaded_while_the_caller_computes_and_no_more_than_allowed() -> None:
    begun: list[int] = []
    full = threading.Event()

    def load(number: int) -> int:
        begun.append(number)
        if len(begun) == 4:
            full.set()
        return number

    asked: list[int] = []

    def batches() -> Iterator[int]:
        for number in count():
            asked.append(number)
            yield number

    with Loader(batches(), load, ahead=3, threads=2) as loader:
        assert next(loader) == 0
        assert full.wait(WAIT)
        assert sorted(begun) == [0, 1, 2, 3]
        assert asked == [0, 1, 2, 3]


def test_an_error_is_raised_where_its_result_would_have_come_and_ends_it() -> None:
    def load(number: int) -> int:
        if number == 3:
            raise RuntimeError("batch 3")
        return number

    loader = Loader(count(), load)
    assert list(islice(loader, 3)) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="batch 3"):
        next(loader)
    assert next(loader, None) is None
    assert not loader_threads()


def test_an_error_of_the_batches_themselves_is_raised() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise RuntimeError("sampler")

    with pytest.raises(RuntimeError, match="sampler"), Loader(batches(), int) as loader:
        list(loader)
    assert not loader_threads()


def test_no_thread_is_left_after_the_block() -> None:
    with Loader(count(), int) as loader:
        next(loader)
        assert loader_threads()
    assert not loader_threads()
    assert list(loader) == []


def test_waiting_is_measured_apart_from_the_first_time() -> None:
    clock = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.data.loader.time.perf_counter", lambda: float(next(clock)))
        with Loader(range(3), int) as loader:
            assert loader.wait_s == 0
            assert list(loader) == [0, 1, 2]
    assert loader.first_wait_s == 1
    assert loader.wait_s == 3


@pytest.mark.parametrize("wrong", [{"ahead": 0}, {"threads": 0}], ids=str)
def test_a_loader_without_threads_or_room_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Loader(range(3), int, **wrong)
