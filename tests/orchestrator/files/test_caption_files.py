import os
from pathlib import Path

import pytest

from contract.errors import CaptionUnreadable, FileUnwritable
from orchestrator.files import caption_files


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


def test_a_file_that_cannot_be_written_is_named_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(FileUnwritable, match=r"a\.txt") as caught:
        caption_files.write(str(tmp_path / "a.txt"), "red")
    assert caught.value.where == str(tmp_path / "a.txt")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_longest_name_that_a_file_can_have_takes_a_caption(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".txt")
    caption_files.write(str(path), "red")
    caption_files.write(str(path), "blue")
    assert path.read_text(encoding="utf-8") == "blue\n"
    assert os.listdir(tmp_path) == [path.name]


def _dies_before_the_rename(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    """Write as far as the rename; what is left in the folder."""

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(os, "replace", die)
        caption_files.write(str(path), "half")
    (left,) = set(os.listdir(path.parent)) - {path.name}
    return left


@pytest.mark.parametrize("stem", ["a", "日本", "x" * 251])
def test_what_a_crash_left_is_cleared_and_nothing_else(
    tmp_path: Path, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = stem if len(stem.encode()) < 252 else stem[:251]
    left = _dies_before_the_rename(monkeypatch, tmp_path / f"{stem}.txt")
    kept = [".mine", ".lorakeet-" + "0" * 32 + "-00000000.tmp"]
    for name in kept:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    # As another process left it.
    os.rename(tmp_path / left, tmp_path / (left[:-12] + "ffffffff.tmp"))
    caption_files.clear_leftovers([str(tmp_path / f"{stem}.txt"), str(tmp_path / "none" / "b.txt")])
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in" / "a.txt"
    path.parent.mkdir()
    left = _dies_before_the_rename(monkeypatch, path)
    (path.parent / left).unlink()
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    (path.parent / left).symlink_to(tmp_path / "mine")
    caption_files.write(str(path), "red")
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "mine"
    assert path.read_text(encoding="utf-8") == "red\n" and not path.is_symlink()


def test_a_new_caption_is_written_only_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert caption_files.write_new(str(path), "red")
    assert path.read_text(encoding="utf-8") == "red\n"
    path.write_text("by hand", encoding="utf-8")
    assert not caption_files.write_new(str(path), "blue")
    assert path.read_text(encoding="utf-8") == "by hand"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_same_holds_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    test_a_new_caption_is_written_only_where_there_is_none(tmp_path)
