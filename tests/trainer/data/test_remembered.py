"""What is known of files is remembered, and never believed of a file that changed."""

import os
import shutil
from pathlib import Path

import pytest

from contract.methods.training.captions import Captions
from tests.trainer.data.folders import PHOTOS, pictures
from trainer.data.collection import Collection, collect, listed_in
from trainer.data.picture import Facts
from trainer.data.remembered import Remembered
from trainer.data.subset import Subset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures(tmp_path / "pictures")


def collected(folder: Path, memory: str) -> Collection:
    subsets = [Subset(name="a", folder=os.fspath(folder), captions=Captions(missing="empty"))]
    return collect(listed_in(subsets), subsets, remembered=Remembered(memory))


def test_files_that_did_not_change_are_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = os.fspath(tmp_path / "caches" / "pictures.json")
    first = collected(folder, memory)

    def unread(path: str, **_: object) -> Facts:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("trainer.data.remembered.look", unread)
    again = collected(folder, memory)
    assert again.pictures == first.pictures


def test_a_file_that_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    memory = os.fspath(tmp_path / "pictures.json")
    collected(folder, memory)
    shutil.copyfile(folder / "coffee.png", folder / "china.png")
    hashes = {os.path.basename(each.path): each.sha256 for each in collected(folder, memory).pictures}
    assert hashes["china.png"] == hashes["coffee.png"]


@pytest.mark.parametrize("content", [b"", b"{", b"[[1, 2]]", b'["\xff"]', b'[["\xff", 1, 2, 3, 4, 5, "a"]]'])
def test_a_damaged_memory_is_as_good_as_none(content: bytes, folder: Path, tmp_path: Path) -> None:
    memory = tmp_path / "pictures.json"
    memory.write_bytes(content)
    assert len(collected(folder, os.fspath(memory)).pictures) == len(PHOTOS)
    assert memory.read_bytes() != content


def test_a_memory_that_cannot_be_kept_does_not_matter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = os.fspath(tmp_path / "file" / "pictures.json")
    assert len(collected(folder, memory).pictures) == len(PHOTOS)
