"""Threads that decode share a budget of memory: large pictures wait, and everybody gets a turn."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.errors import ImageTooLarge, OutOfMemory
from kernel.engines import pictures
from kernel.engines.budget import Budget
from kernel.engines.pictures import budget_for, prepare


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
        prepare(str(path), 8, fast=True, max_pixels=100_000, budget=budget)
        done.set()

    thread = threading.Thread(target=run, daemon=True)
    with budget.share(2 * 100_000 * 20 - 1000):
        thread.start()
        assert started.wait(10)
        assert not done.wait(0.2)
    assert done.wait(10)
    thread.join(10)


def test_a_sparse_file_longer_than_any_picture_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF\x10\0\0\0WEBPVP8 ")
    try:
        os.truncate(path, 4 << 40)
    except OSError:
        pytest.skip("this file system has no such files")
    with pytest.raises(ImageTooLarge, match="'a.webp'") as caught:
        prepare(str(path), 8, fast=True, max_pixels=64_000_000)
    assert caught.value.details["bytes"] == 4 << 40
    assert caught.value.where == str(path)


def test_a_picture_without_memory_is_one_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)

    def full(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "_fit", full)
    with pytest.raises(OutOfMemory, match="'a.png'") as caught:
        prepare(str(path), 8, fast=True, max_pixels=64_000_000)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("shape", [(50, 70), (1, 2000), (2000, 1), (33, 31)])
def test_grey_in_strips_is_grey_in_one_piece(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = np.random.default_rng(0)
    floats = dice.uniform(-5, 9, shape).astype(np.float32)
    floats[0, 0] = np.nan
    for name, values in (
        ("a.png", dice.integers(0, 65536, shape).astype(np.uint16)),
        ("f.tif", floats),
        ("i.tif", dice.integers(-9, 70_000, shape).astype(np.int32)),
    ):
        path = tmp_path / name
        Image.fromarray(values).save(path)
        monkeypatch.setattr(pictures, "_STRIP_PIXELS", 1 << 30)
        whole = prepare(str(path), 64, fast=False, max_pixels=10_000).pixels
        monkeypatch.setattr(pictures, "_STRIP_PIXELS", 100)
        assert (prepare(str(path), 64, fast=False, max_pixels=10_000).pixels == whole).all()
