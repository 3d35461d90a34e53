"""Batches on threads: pictures are prepared and run through the model so that every core is busy.

Preparing and running release the GIL in their heavy parts. Every time a thread hands something to another,
both may have to wait for the GIL; so where a run takes one thread, that thread prepares its batch as well.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def batches(count: int, size: int, runners: int) -> Iterator[range]:
    """`count` items as ranges of at most `size`, smaller towards the end so that all runners end together.

    Guided self-scheduling (Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987): with more
    than one runner, a batch is at most a fair share of what is left. With one, only the last is ragged.
    """
    start = 0
    while start < count:
        fair = -(-(count - start) // runners)
        stop = start + min(size, fair)
        yield range(start, stop)
        start = stop


def stream(
    plan: Sequence[range],
    prepare: Callable[[int], A],
    run: Callable[[list[A]], B],
    *,
    preparers: int,
    runners: int,
    stop: Future[Any],
) -> Iterator[tuple[range, B]]:
    """For each range of `plan`, in order, what `run` makes of its prepared items.

    At most `2 * runners + 1` batches are under way. Ends early, without waiting for what is under way, once
    `stop` is done. What `prepare` or `run` raises is raised here.
    """
    ahead = 2 * runners + 1
    under_way: deque[tuple[range, Future[B]]] = deque()
    with ExitStack() as stack:
        if runners == preparers:
            begin = _one_stage(stack, prepare, run, runners, stop)
        else:
            begin = _two_stages(stack, prepare, run, preparers, runners)
        waiting = iter(plan)
        while not stop.done():
            while len(under_way) < ahead and (batch := next(waiting, None)) is not None:
                under_way.append((batch, begin(batch)))
            if not under_way:
                return
            batch, future = under_way.popleft()
            wait((future, stop), return_when=FIRST_COMPLETED)
            if not stop.done():
                yield batch, future.result()


def _one_stage(
    stack: ExitStack,
    prepare: Callable[[int], A],
    run: Callable[[list[A]], B],
    threads: int,
    stop: Future[Any],
) -> Callable[[range], Future[B]]:
    """Every thread takes whole batches."""
    pool = _pool(stack, threads, "batch")

    def item(index: int) -> A:
        if stop.done():
            raise CancelledError  # nobody waits for this batch any more
        return prepare(index)

    return lambda batch: pool.submit(lambda: run([item(index) for index in batch]))


def _two_stages(
    stack: ExitStack, prepare: Callable[[int], A], run: Callable[[list[A]], B], preparers: int, runners: int
) -> Callable[[range], Future[B]]:
    """Many threads prepare ahead of the few that run."""
    preparing, running = _pool(stack, preparers, "prepare"), _pool(stack, runners, "run")

    def whole(items: list[Future[A]]) -> B:
        return run([item.result() for item in items])

    return lambda batch: running.submit(whole, [preparing.submit(prepare, index) for index in batch])


def _pool(stack: ExitStack, threads: int, name: str) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, name)
    # Nobody waits here for what is still running: a canceled job has to answer at once.
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool
