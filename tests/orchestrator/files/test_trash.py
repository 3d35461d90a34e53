import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from contract.errors import DiskFull, NotFound, StateConflict
from orchestrator.files.trash import Origin, Trash


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "deep" / "a.bin").write_bytes(b"content")
    return tmp_path / "root"


@pytest.fixture
def trash(tmp_path: Path) -> Trash:
    return Trash(tmp_path / "home")


def _origin(root: Path, path: str = "deep/a.bin") -> Origin:
    return Origin(
        kind="thing", name="a", root="photos", path=path, root_folder=str(root), at=str(root / path)
    )


def test_at_first_the_trash_is_empty(trash: Trash) -> None:
    assert trash.list() == []


def test_what_is_thrown_away_is_kept_with_where_it_was(trash: Trash, root: Path, tmp_path: Path) -> None:
    thrown = trash.put(_origin(root))
    assert (thrown.kind, thrown.name, thrown.root, thrown.path) == ("thing", "a", "photos", "deep/a.bin")
    assert thrown.size_bytes == 7 and thrown.deleted_at.endswith("Z")
    assert trash.list() == [thrown] == Trash(tmp_path / "home").list()
    assert os.listdir(root / "deep") == []
    folder = tmp_path / "home" / "trash" / thrown.id.removeprefix("trash_")
    assert (folder / "content" / "a.bin").read_bytes() == b"content"
    assert json.loads((folder / "record.json").read_bytes())["origin"]["at"] == str(root / "deep" / "a.bin")


def test_the_newest_comes_first(trash: Trash, root: Path) -> None:
    first = trash.put(_origin(root))
    second = trash.put(_origin(root, "deep"))
    assert sorted([first.id, second.id], reverse=True) == [each.id for each in trash.list()]


def test_it_comes_back_to_where_it_was(trash: Trash, root: Path, tmp_path: Path) -> None:
    thrown = trash.put(_origin(root))
    (root / "deep").rmdir()
    assert trash.restore(thrown.id) == thrown
    assert (root / "deep" / "a.bin").read_bytes() == b"content"
    assert trash.list() == [] == os.listdir(tmp_path / "home" / "trash")
    with pytest.raises(NotFound):
        trash.restore(thrown.id)


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(trash: Trash, root: Path) -> None:
    thrown = trash.put(_origin(root))
    (root / "deep" / "a.bin").write_bytes(b"new")
    with pytest.raises(StateConflict, match="something at"):
        trash.restore(thrown.id)
    assert (root / "deep" / "a.bin").read_bytes() == b"new"
    (root / "deep" / "a.bin").unlink()
    trash.restore(thrown.id)
    assert (root / "deep" / "a.bin").read_bytes() == b"content"


def test_a_root_that_is_gone_is_not_made_anew(trash: Trash, root: Path) -> None:
    """It may be on a disk that is not plugged in."""
    thrown = trash.put(_origin(root))
    shutil.rmtree(root)
    with pytest.raises(StateConflict, match="gone"):
        trash.restore(thrown.id)
    assert not root.exists() and trash.list() == [thrown]


def test_what_is_not_there_cannot_be_thrown_away(trash: Trash, root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not there any more"):
        trash.put(_origin(root, "deep/none"))
    assert trash.list() == []


def test_what_is_removed_for_good_is_gone(trash: Trash, root: Path, tmp_path: Path) -> None:
    thrown = trash.put(_origin(root))
    trash.delete(thrown.id)
    assert trash.list() == [] == os.listdir(tmp_path / "home" / "trash")
    with pytest.raises(NotFound):
        trash.delete(thrown.id)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "trash_", "trash_..", "trash_../../root", "/etc", "trash_NONE"]
)
def test_a_name_that_is_none_of_ours_is_not_found(name: str, trash: Trash, root: Path) -> None:
    trash.put(_origin(root))
    for refused in (trash.restore, trash.delete):
        with pytest.raises(NotFound):
            refused(name)
    assert len(trash.list()) == 1


@pytest.mark.parametrize("step", ["mkdir", "fsync", "replace"])
def test_a_full_disk_leaves_everything_where_it_was(
    step: str, trash: Trash, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(DiskFull):
            trash.put(_origin(root))
    assert (root / "deep" / "a.bin").read_bytes() == b"content" and trash.list() == []
    assert len(os.listdir(tmp_path)) <= 2
    trash.put(_origin(root))
    assert len(trash.list()) == 1


def test_a_disk_that_fails_after_the_move_undoes_it(
    trash: Trash, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.files import durable

    synced: list[Path] = []

    def fail_late(folder: Path) -> None:
        synced.append(folder)
        if folder.name == "content":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(durable, "sync_folder", fail_late)
        with pytest.raises(Exception, match="cannot be written"):
            trash.put(_origin(root))
    assert trash.list() == []
    assert (root / "deep" / "a.bin").read_bytes() == b"content"


def test_a_crash_between_the_two_names_of_a_file_loses_nothing(
    trash: Trash, root: Path, tmp_path: Path
) -> None:
    thrown = trash.put(_origin(root))
    content = tmp_path / "home" / "trash" / thrown.id.removeprefix("trash_") / "content" / "a.bin"
    os.link(content, root / "deep" / "a.bin")
    assert trash.restore(thrown.id) == thrown
    assert (root / "deep" / "a.bin").read_bytes() == b"content" and trash.list() == []


def test_what_a_crash_left_without_a_record_or_a_content_is_passed_over(
    trash: Trash, root: Path, tmp_path: Path
) -> None:
    thrown = trash.put(_origin(root))
    (tmp_path / "home" / "trash" / "EMPTY" / "content").mkdir(parents=True)
    folder = tmp_path / "home" / "trash" / "HALF"
    shutil.copytree(tmp_path / "home" / "trash" / thrown.id.removeprefix("trash_"), folder)
    (folder / "record.json").write_bytes(b'{"v":')
    assert trash.list() == [thrown]
