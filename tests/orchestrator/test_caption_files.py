import os
from pathlib import Path

import pytest

from contract.errors import CaptionUnreadable, FileUnwritable
from orchestrator import caption_files


def test_a_caption_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "a.txt")
    caption_files.write(path, "1girl, café, 日本")
    assert caption_files.read(path) == "1girl, café, 日本"
    assert (tmp_path / "a.txt").read_bytes() == "1girl, café, 日本\n".encode()


def test_a_file_that_is_not_there_has_no_caption(tmp_path: Path) -> None:
    assert caption_files.read(str(tmp_path / "a.txt")) is None


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfred\r\n")
    assert caption_files.read(str(tmp_path / "a.txt")) == "red"


def test_a_caption_in_another_encoding_is_refused_by_name_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(CaptionUnreadable, match=r"a\.txt"):
        caption_files.read(str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").read_bytes() == "café".encode("latin-1")


def test_writing_leaves_nothing_else_behind(tmp_path: Path) -> None:
    caption_files.write(str(tmp_path / "a.txt"), "red")
    caption_files.write(str(tmp_path / "a.txt"), "blue")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(FileUnwritable, match=r"a\.txt") as caught:
        caption_files.write(str(tmp_path / "a.txt"), "red")
    assert caught.value.where == str(tmp_path / "a.txt")


def test_what_a_crash_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.lorakeet-tmp").write_text("half", encoding="utf-8")
    (tmp_path / ".mine").write_text("mine", encoding="utf-8")
    caption_files.clear_leftovers([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert os.listdir(tmp_path) == [".mine"]
