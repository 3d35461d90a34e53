"""Threads that decode share a budget of memory: large pictures wait, and everybody gets a turn."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from trainer.pictures.budget import Budget
from trainer.pictures.file import budget_for, opened


def test_shares_never_add_up_to_more_than_there_is() -> None:
    budget, lock = Budget(10), threading.Lock()
    taken = most = 0

    def take(wanted: int) -> None:
        nonlocal taken, most
        with budget.share(wanted):
            with lock:
                taken += min(wanted, 10)
                most = max(most, taken)
            with lock:
                taken -= min(wanted, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [1, 4, 7, 10, 100, 3] * 200, timeout=30))
    assert 0 < most <= 10 and taken == 0


def test_a_large_picture_waits_until_there_is_memory_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (300, 300)).save(path)
    budget = budget_for(100_000)
    started, done = threading.Event(), threading.Event()

    def run() -> None:
        started.set()
        with opened(str(path), max_pixels=100_000, budget=budget) as picture, picture.decoded():
            done.set()

    thread = threading.Thread(target=run, daemon=True)
    with budget.share(2 * 100_000 * 20 - 1000):
        thread.start()
        assert started.wait(10)
        assert not done.wait(0.2)
    assert done.wait(10)
    thread.join(10)
