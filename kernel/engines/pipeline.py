"""Two stages on threads: pictures are prepared ahead while batches run through the model.

Both stages release the GIL in their heavy parts, so that together they keep every core busy.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
        preparing, running = _pool(stack, preparers, "prepare"), _pool(stack, runners, "run")

        def whole(items: list[Future[A]]) -> B:
            return run([item.result() for item in items])

        waiting = iter(plan)
        while not stop.done():
            while len(under_way) < ahead and (batch := next(waiting, None)) is not None:
                items = [preparing.submit(prepare, index) for index in batch]
                under_way.append((batch, running.submit(whole, items)))
            if not under_way:
                return
            batch, future = under_way.popleft()
            wait((future, stop), return_when=FIRST_COMPLETED)
            if not stop.done():
                yield batch, future.result()


def _pool(stack: ExitStack, threads: int, name: str) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, name)
    # Nobody waits here for what is still running: a canceled job has to answer at once.
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool
