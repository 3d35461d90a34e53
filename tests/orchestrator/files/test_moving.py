"""Moving, within a disk and, where this machine has a second one, really across."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.errors import DiskFull, FileUnreadable, FileUnwritable, LorakeetError, StateConflict
from orchestrator.files.moving import move, size_of

_posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
_CONTENT = b"a model" * 100_000


@pytest.fixture(params=["same disk", "other disk", "pretended disk", "no hard links"])
def other(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to move things to."""

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    match request.param:
        case "same disk":
            (tmp_path / "other").mkdir()
            yield tmp_path / "other"
        case "other disk":
            memory = Path("/dev/shm")
            if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
                pytest.skip("this machine has one disk only")
            with tempfile.TemporaryDirectory(dir=memory) as folder:
                yield Path(folder)
        case "pretended disk":
            number = errno.EXDEV
            (tmp_path / "other").mkdir()
            really, link = os.rename, os.link

            def rename(source: Path, target: Path) -> None:
                (really if Path(source).parent == Path(target).parent else refuse)(source, target)

            def hard_link(source: Path, target: Path) -> None:
                (link if Path(source).parent == Path(target).parent else refuse)(source, target)

            monkeypatch.setattr(os, "rename", rename)
            monkeypatch.setattr(os, "link", hard_link)
            yield tmp_path / "other"
        case _:
            number = errno.EPERM
            (tmp_path / "other").mkdir()
            monkeypatch.setattr(os, "link", refuse)
            yield tmp_path / "other"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a file").write_bytes(_CONTENT)
    os.utime(tmp_path / "a file", (1_700_000_000, 1_700_000_000))
    return tmp_path / "a file"


def test_a_file_is_moved_whole_with_its_time(file: Path, other: Path) -> None:
    move(file, other / "moved")
    assert not file.exists() and os.listdir(other) == ["moved"]
    assert (other / "moved").read_bytes() == _CONTENT
    assert (other / "moved").stat().st_mtime == 1_700_000_000


@_posix
def test_a_folder_is_moved_with_all_that_is_in_it(tmp_path: Path, other: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(b"1")
    (folder / "b").symlink_to("deep/a")
    (folder / "lost").symlink_to("/nowhere/at/all")
    move(folder, other / "moved")
    assert not folder.exists()
    assert (other / "moved" / "deep" / "a").read_bytes() == b"1"
    assert [os.readlink(other / "moved" / name) for name in ("b", "lost")] == ["deep/a", "/nowhere/at/all"]


@_posix
def test_of_a_link_only_the_link_is_moved(tmp_path: Path, file: Path, other: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    move(tmp_path / "link", other / "moved")
    assert os.readlink(other / "moved") == str(file) and file.exists()
    assert not os.path.lexists(tmp_path / "link")


@pytest.mark.parametrize("taken_by", ["file", "folder", "link"])
@_posix
def test_nothing_is_ever_overwritten(taken_by: str, file: Path, other: Path) -> None:
    taken = other / "taken"
    match taken_by:
        case "file":
            taken.write_bytes(b"mine")
        case "folder":
            taken.mkdir()
        case _:
            taken.symlink_to("/nowhere/at/all")
    with pytest.raises(StateConflict, match="something at"):
        move(file, taken)
    assert file.read_bytes() == _CONTENT and os.listdir(other) == ["taken"]


def test_a_place_that_is_not_there_is_named_and_the_file_stays(file: Path, other: Path) -> None:
    with pytest.raises(FileUnwritable, match="nowhere"):
        move(file, other / "nowhere" / "moved")
    assert file.read_bytes() == _CONTENT


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on what passes for another disk; see above."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    really = os.link

    def link(source: Path, to: Path) -> None:
        if Path(source).parent != Path(to).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        really(source, to)

    monkeypatch.setattr(os, "link", link)
    return target


def _fails(file: Path, target: Path, kind: type[LorakeetError]) -> None:
    with pytest.raises(kind):
        move(file, target / "moved")
    assert file.read_bytes().startswith(b"a model") and os.listdir(target) == []


def test_a_disk_without_room_is_not_filled(file: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(copied)._replace(free=len(_CONTENT))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    _fails(file, copied, DiskFull)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, FileUnwritable)])
def test_a_disk_that_fails_while_it_is_written_leaves_the_file_where_it_was(
    number: int, kind: type[LorakeetError], file: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    _fails(file, copied, kind)


def test_a_copy_that_is_not_the_same_is_not_taken_for_it(
    file: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def spoil(descriptor: int) -> None:
        os.pwrite(descriptor, b"?", 5)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", spoil)
    _fails(file, copied, FileUnreadable)


def test_a_file_that_is_written_to_meanwhile_is_not_moved(
    file: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def append(descriptor: int) -> None:
        with file.open("ab") as growing:
            growing.write(b"more")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", append)
    _fails(file, copied, StateConflict)


def test_what_an_earlier_attempt_left_is_cleared_away(file: Path, copied: Path) -> None:
    (copied / "moved.lorakeet-part").write_bytes(b"half")
    move(file, copied / "moved")
    assert os.listdir(copied) == ["moved"] and (copied / "moved").read_bytes() == _CONTENT


def test_a_file_that_cannot_be_removed_is_not_in_two_places(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    really = os.unlink

    def unlink(path: Path) -> None:
        if Path(path) == file:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        really(path)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(FileUnwritable):
        move(file, tmp_path / "other" / "moved")
    assert file.exists() and os.listdir(tmp_path / "other") == []


@_posix
def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path, file: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_bytes(b"12345")
    assert size_of(tmp_path) == len(_CONTENT) + 5
