"""Threads for work that comes in small pieces: one piece a core at a time, results in order.

Torch spreads one operation over all cores, which pays for large matrices only; a LoRA is a thousand small
ones. Here every piece runs on one thread of one core, several pieces at a time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Final, Self, TypeVar

from kernel.cores import cores

A = TypeVar("A")
B = TypeVar("B")
#: Pieces that may be under way or wait to be taken, per thread: enough that none waits for work.
_AHEAD: Final = 3


class Workers:
    """A context manager over as many threads as this process has cores, each with torch on one thread."""

    def __init__(self, count: int | None = None) -> None:
        import torch

        self._count = cores() if count is None else count
        # The number is a thread's own, but new threads take the last that any thread has set.
        before = torch.get_num_threads()
        started = Barrier(self._count + 1)

        def start() -> None:
            # Torch sets a new thread's number at the first look at it, over what was set before that.
            torch.get_num_threads()
            torch.set_num_threads(1)
            started.wait()

        self._pool = ThreadPoolExecutor(self._count, "factors", initializer=start)
        try:
            for _ in range(self._count):
                self._pool.submit(int)
        except RuntimeError:
            started.abort()
            raise
        started.wait()
        torch.set_num_threads(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What is under way looks into mapped files, which may only be closed behind it; it is short.
        self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, make: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """What `make` makes of each item, in their order, a few of them ahead. What it raises is raised
        here."""
        under_way: deque[Future[B]] = deque()
        try:
            for item in items:
                under_way.append(self._pool.submit(make, item))
                if len(under_way) >= self._count * _AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
