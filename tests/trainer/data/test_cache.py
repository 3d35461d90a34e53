"""What was written is found again, by this run and by others, whatever happened to either."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from contract.errors import DiskFull, FileUnwritable, WeightsChanged
from trainer.data.cache import Cache, CacheWriter, key_of, seed_of

ROOT = Path(__file__).parents[3]


def entry(number: int) -> dict[str, torch.Tensor]:
    """Two tensors that tell which entry they are of."""
    return {"hidden": torch.full((3, 4), float(number)), "pooled": torch.tensor([number], dtype=torch.int64)}


def fill(cache: Cache, numbers: range, *, items: int = 4) -> None:
    with CacheWriter(cache, items=items) as writer:
        for number in numbers:
            writer.put(key_of(number), entry(number))


def check(cache: Cache, numbers: range) -> None:
    for number in numbers:
        read = cache.read(key_of(number))
        assert read.keys() == entry(number).keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in entry(number).items())


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_entries_are_found_by_who_wrote_them_and_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "caches" / "latents"
    with Cache(os.fspath(folder)) as cache:
        fill(cache, range(10))
        check(cache, range(10))
    assert len(shards(folder)) == 3
    other = Cache(os.fspath(folder))
    assert len(other) == 10
    check(other, range(10))
    assert other.missing([key_of(99), key_of(3), key_of(99)]) == [key_of(99)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_type_and_shape_comes_back_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path))
    whole = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    with CacheWriter(cache) as writer:
        writer.put("a" * 64, {"x": whole.transpose(0, 2), "none": whole[:0], "one": whole[0, 0, 0]})
    read = Cache(os.fspath(tmp_path)).read("a" * 64)
    assert read["x"].dtype == dtype
    assert torch.equal(read["x"], whole.transpose(0, 2))
    assert read["none"].shape == (0, 6, 8) and read["one"].shape == ()


def test_what_is_read_is_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path))
    fill(cache, range(1))
    cache.read(key_of(0))["hidden"].add_(1)
    check(cache, range(1))


def test_entries_that_are_there_are_not_written_again(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path))
    fill(cache, range(4))
    fill(cache, range(6))
    assert sum(path.stat().st_size for path in shards(tmp_path)) < 4000
    assert len(Cache(os.fspath(tmp_path))) == 6
    fill(cache, range(6))
    assert len(shards(tmp_path)) == 2


def test_a_shard_is_written_when_it_is_large_or_old_enough(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path))
    with CacheWriter(cache, max_bytes=100) as writer:
        for number in range(4):
            writer.put(key_of(number), entry(number))
        assert len(shards(tmp_path)) == 2
    with CacheWriter(cache, seconds=0) as writer:
        writer.put(key_of(9), entry(9))
        assert len(shards(tmp_path)) == 3


def test_a_truncated_shard_is_named_and_its_entries_are_missing(tmp_path: Path) -> None:
    fill(Cache(os.fspath(tmp_path)), range(8))
    path = shards(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-3])
    cache = Cache(os.fspath(tmp_path))
    assert [each.path for each in cache.damaged] == [os.fspath(path)]
    assert len(cache) == 4
    fill(cache, range(8))
    check(cache, range(8))
    again = Cache(os.fspath(tmp_path))
    check(again, range(8))
    assert len(again.damaged) == 1


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, b"PK\x03\x04" + bytes(50)])
def test_files_that_are_none_of_ours_do_no_harm(content: bytes, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "odd.safetensors").write_bytes(content)
    (tmp_path / "notes.txt").write_bytes(content)
    (tmp_path / ".lorakeet-0123456789abcdef.part").write_bytes(content)
    save_file({f"{key_of(0)}.hidden": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    cache = Cache(os.fspath(tmp_path))
    assert len(cache) == 0 and len(cache.damaged) == 1
    fill(cache, range(2))
    check(Cache(os.fspath(tmp_path)), range(2))


def test_a_shard_that_is_taken_away_counts_as_missing(tmp_path: Path) -> None:
    fill(Cache(os.fspath(tmp_path)), range(8))
    cache = Cache(os.fspath(tmp_path))
    shards(tmp_path)[0].unlink()
    missed = 0
    for number in range(8):
        try:
            check(cache, range(number, number + 1))
        except WeightsChanged as error:
            assert error.where is not None and error.where.startswith(os.fspath(tmp_path))
            missed += 1
    assert missed == 4 == len(cache)
    fill(cache, range(8))
    check(cache, range(8))


def test_a_shard_that_shrinks_while_it_is_open_is_an_error_not_a_crash(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path))
    fill(cache, range(4))
    check(cache, range(1))
    os.truncate(shards(tmp_path)[0], 300)
    with pytest.raises(WeightsChanged):
        cache.read(key_of(1))
    assert key_of(1) not in cache


def test_runs_that_share_a_folder_see_what_the_other_wrote(tmp_path: Path) -> None:
    first, second = Cache(os.fspath(tmp_path)), Cache(os.fspath(tmp_path))
    fill(first, range(6), items=9)
    fill(second, range(4, 9), items=9)
    first.refresh()
    second.refresh()
    for cache in (first, second):
        check(cache, range(9))
    # Two entries are in a shard of either, so whichever goes, they stay.
    shards(tmp_path)[0].unlink()
    first.refresh()
    assert len(first) == len(Cache(os.fspath(tmp_path))) < 9
    check(first, range(4, 6))


def test_runs_that_fill_a_folder_at_once_leave_each_others_work_alone(tmp_path: Path) -> None:
    started = threading.Barrier(3)

    def run() -> None:
        started.wait()
        fill(Cache(os.fspath(tmp_path)), range(30), items=3)

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(run) for _ in range(3)]:
            future.result()
    cache = Cache(os.fspath(tmp_path))
    check(cache, range(30))
    assert not cache.damaged
    assert len(os.listdir(tmp_path)) == len(shards(tmp_path)) >= 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets room aside beforehand")
def test_a_full_disk_is_told_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(os.fspath(tmp_path))
    fill(cache, range(4))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(DiskFull):
            fill(cache, range(8))
    assert len(cache) == 4 and len(os.listdir(tmp_path)) == 1
    fill(cache, range(8))
    check(Cache(os.fspath(tmp_path)), range(8))


def test_threads_may_read_more_shards_than_are_kept_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.data.cache._MOST_OPEN", 2)
    cache = Cache(os.fspath(tmp_path))
    fill(cache, range(24), items=2)
    failed: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(5):
                check(cache, range(24))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(cache._open) <= 2


def test_what_ends_the_filling_early_keeps_what_was_done(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path))
    with pytest.raises(RuntimeError, match="canceled"), CacheWriter(cache) as writer:
        for number in range(3):
            writer.put(key_of(number), entry(number))
        raise RuntimeError("canceled")
    check(Cache(os.fspath(tmp_path)), range(3))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileUnwritable, match="file"):
        Cache(os.fspath(tmp_path / "file" / "cache"))


def test_keys_tell_their_parts_apart() -> None:
    parts: list[tuple[str | int | float | bool | None, ...]] = [
        ("a", "b"), ("ab",), ("b", "a"), (1,), ("1",), (1.0,), (True,), (None,), ("a", None, "b"),
    ]  # fmt: skip
    assert len({key_of(*each) for each in parts}) == len(parts)
    assert key_of("a", 1) == key_of("a", 1)
    assert 0 <= seed_of(key_of("a")) < 2**63


_FILLER = """
import sys, torch
from trainer.data.cache import Cache, CacheWriter, key_of
torch.set_num_threads(1)
cache = Cache(sys.argv[1])
with CacheWriter(cache, items=2) as writer:
    for number in range(len(cache), 10**6):
        writer.put(key_of(number), {"hidden": torch.full((3, 4), float(number)),
                                    "pooled": torch.tensor([number], dtype=torch.int64)})
        print(number, flush=True)
"""


def killed(folder: Path, after: int) -> Cache:
    """The cache that a process leaves which is killed once it has put so many more entries."""
    with subprocess.Popen(
        [sys.executable, "-c", _FILLER, os.fspath(folder)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)},
    ) as filler:
        assert filler.stdout is not None
        for number, _ in enumerate(filler.stdout, 1):
            if number >= after:
                break
        filler.send_signal(signal.SIGKILL)
    return Cache(os.fspath(folder))


def check_after_kill(cache: Cache, least: int) -> None:
    """Only whole entries are left: all of the beginning, as the process writes them in order."""
    assert not cache.damaged
    assert len(cache) >= least
    check(cache, range(len(cache)))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_kill_at_any_moment_leaves_only_whole_entries(tmp_path: Path) -> None:
    check_after_kill(killed(tmp_path, 7), 6)
    cache = killed(tmp_path, 30)
    check_after_kill(cache, 28)
    # The next who writes there clears away what the dead left.
    fill(cache, range(len(cache) + 1))
    assert not list(tmp_path.glob(".lorakeet-*.part"))


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_twenty_kills_one_after_the_other_lose_no_entry_that_was_written(tmp_path: Path) -> None:
    chance = random.Random(20)
    written = 0
    for _ in range(20):
        cache = killed(tmp_path, chance.randint(1, 200))
        check_after_kill(cache, written)
        written = len(cache)
    assert written > 100
