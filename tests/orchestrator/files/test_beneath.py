"""Folders that are walked to without following a link."""

import os
import sys
from pathlib import Path

import pytest

from orchestrator.files.beneath import CREATE, READ, Linked, opened_folder

links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def test_files_are_made_found_and_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with opened_folder(str(tmp_path), ["a", "b"]) as folder:
        os.close(folder.open("one", CREATE))
        assert folder.has("one")
        assert [entry.name for entry in folder.entries()] == ["one"]
        folder.replace("one", "two")
        assert folder.rename_new("two", "three")
        os.close(folder.open("four", CREATE))
        assert not folder.rename_new("four", "three")
        folder.unlink("four")
        folder.sync()
    assert os.listdir(tmp_path / "a" / "b") == ["three"]


def test_a_folder_is_listed_as_often_as_one_likes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with opened_folder(str(tmp_path)) as folder:
        for _ in range(3):
            assert [entry.stat(follow_symlinks=False).st_size for entry in folder.entries()] == [5]


@links
def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "link-to-file").symlink_to(tmp_path / "real" / "file")
    with pytest.raises(Linked), opened_folder(str(tmp_path), ["link"]):
        pass
    with opened_folder(str(tmp_path)) as folder:
        with pytest.raises(Linked):
            folder.open("link-to-file", READ)
        with pytest.raises(Linked), folder.folder("link"):
            pass
        with folder.folder("real") as deeper:
            assert deeper.has("file")


def test_what_is_no_folder_and_what_is_missing_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotADirectoryError), opened_folder(str(tmp_path), ["file"]):
        pass
    with pytest.raises(FileNotFoundError), opened_folder(str(tmp_path), ["nothing"]):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX has pipes with names")
def test_opening_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with opened_folder(str(tmp_path)) as folder:
        os.close(folder.open("pipe", READ))
