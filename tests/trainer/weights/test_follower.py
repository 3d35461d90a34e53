"""The thread that follows a file: the hash of all that was written, whenever it is said to be."""

import hashlib
import os
from pathlib import Path

import pytest

from trainer.weights.follower import Follower
from trainer.weights.writeback import EVERY_BYTES, begin_writeback


def test_the_hash_is_that_of_what_is_written_by_then(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    path = tmp_path / "x"
    with path.open("wb", buffering=0) as file:
        follower = Follower(str(path), 5)
        for start in range(0, len(content), 700_000):
            file.write(content[start : start + 700_000])
            follower.advance(file.tell())
    assert follower.finish() == hashlib.sha256(content[5:]).hexdigest()


def test_what_was_set_aside_and_not_written_yet_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"written" + bytes(1000))
    follower = Follower(str(path), 0)
    follower.advance(7)
    assert follower.finish() == hashlib.sha256(b"written").hexdigest()


def test_it_can_be_given_up_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(5_000_000))
    follower = Follower(str(path), 0)
    follower.advance(5_000_000)
    follower.stop()
    follower.stop()


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"short")
    follower = Follower(str(path), 0)
    follower.advance(100)
    with pytest.raises(OSError):
        follower.finish()


def test_the_disk_is_told_to_begin_with_a_long_file_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "trainer.weights.follower.begin_writeback", lambda _, start, count: begun.append((start, count))
    )
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(2 * EVERY_BYTES + 100)
    follower = Follower(str(path), 0)
    follower.advance(2 * EVERY_BYTES + 100)
    follower.finish()
    assert begun == [(0, EVERY_BYTES), (EVERY_BYTES, EVERY_BYTES)]


def test_to_begin_with_a_file_that_is_closed_does_no_harm(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(5000))
    begin_writeback(descriptor, 0, 5000)
    os.close(descriptor)
    begin_writeback(descriptor, 0, 5000)
    assert (tmp_path / "x").read_bytes() == bytes(5000)
