"""Loads what comes next while the model computes, in the order of the batches, and measures who waited."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

_Batch = TypeVar("_Batch")
_Loaded = TypeVar("_Loaded")


class Loader(Iterator[_Loaded], Generic[_Batch, _Loaded]):
    """An iterator of `load(batch)` for `batches`, at most `ahead` of them loaded or loading at once.

    `load` runs on `threads` threads and must depend on its batch alone. What it raises is raised by the
    `next` that its result would have come from, and ends the iterator. Also a context manager: after its
    block no thread is left. `wait_s` are the seconds that `next` has waited in all, `first_wait_s` those of
    the first time, when nothing could be ready; `taken` counts what was handed out.
    """

    def __init__(
        self,
        batches: Iterable[_Batch],
        load: Callable[[_Batch], _Loaded],
        *,
        ahead: int = 4,
        threads: int = 2,
    ) -> None:
        if ahead < 1 or threads < 1:
            raise ValueError("a loader needs at least one thread and one batch ahead")
        self.wait_s = 0.0
        self.first_wait_s = 0.0
        self.taken = 0
        self._batches = iter(batches)
        self._load = load
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._waiting: deque[Future[_Loaded]] = deque()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Loaded:
        if self._closed:
            raise StopIteration
        try:
            self._fill()
            if not self._waiting:
                raise StopIteration
            loaded = self._await(self._waiting.popleft())
            # Begun before the caller computes, not when it comes back.
            self._fill()
        except BaseException:
            self.close()
            raise
        self.taken += 1
        return loaded

    def close(self) -> None:
        """Drop what is loaded ahead, and wait for what is loading just now."""
        self._closed = True
        self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fill(self) -> None:
        while len(self._waiting) < self._ahead:
            try:
                batch = next(self._batches)
            except StopIteration:
                return
            self._waiting.append(self._pool.submit(self._load, batch))

    def _await(self, future: Future[_Loaded]) -> _Loaded:
        start = time.perf_counter()
        try:
            return future.result()
        finally:
            waited = time.perf_counter() - start
            self.wait_s += waited
            if not self.taken:
                self.first_wait_s = waited
