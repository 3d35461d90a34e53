"""Files are opened once, below their root and nowhere else."""

import hashlib
import os
import sys
import threading
from pathlib import Path

import pytest

from contract.errors import (
    FileMissing,
    FileUnreadable,
    ImageEmpty,
    LorakeetError,
    PathNotAbsolute,
    PathOutsideRoots,
)
from orchestrator.workers.files import opened

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there, and there are no FIFOs")

SECRET = b"secret"


def content(path: Path, root: Path) -> bytes:
    with opened(str(path), str(root)) as source:
        return source.file.read()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file in a folder, beside a folder that is none of its business."""
    (tmp_path / "root" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "root" / "deep" / "er" / "a.png").write_bytes(b"picture")
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too" / "a.png").write_bytes(SECRET)
    return tmp_path / "root"


def test_a_file_is_read_and_known(root: Path) -> None:
    path = root / "deep" / "er" / "a.png"
    with opened(str(path), str(root)) as source:
        assert source.file.read() == b"picture"
        assert source.sha256() == hashlib.sha256(b"picture").hexdigest()
        assert (source.size_bytes, source.mtime_ns) == (7, path.stat().st_mtime_ns)


def test_what_lies_elsewhere_is_refused(root: Path) -> None:
    for path in (root.parent / "root-too" / "a.png", root.parent / "none.png", root.parent):
        with pytest.raises(PathOutsideRoots):
            content(path, root)


@pytest.mark.parametrize("path", ["a.png", "/x/../a.png", "/x/\0.png", ""])
def test_a_path_that_is_not_plain_is_refused(path: str, root: Path) -> None:
    with pytest.raises(PathNotAbsolute), opened(path, str(root)):
        pass


def test_what_is_not_there_is_missing(root: Path) -> None:
    for name in ("none.png", "deep/none/a.png", "deep/er/a.png/b.png"):
        with pytest.raises(FileMissing):
            content(root / name, root)
    with pytest.raises(FileMissing):
        content(root / "none" / "a.png", root / "none")


def test_a_folder_is_no_file(root: Path) -> None:
    for path in (root, root / "deep"):
        with pytest.raises(FileUnreadable):
            content(path, root)


def test_a_file_without_bytes_is_empty(root: Path) -> None:
    (root / "empty.png").touch()
    with pytest.raises(ImageEmpty):
        content(root / "empty.png", root)


@posix
def test_a_fifo_is_refused_at_once(root: Path) -> None:
    if sys.platform != "win32":
        os.mkfifo(root / "pipe.png")
    with pytest.raises(FileUnreadable):
        content(root / "pipe.png", root)


@posix
@pytest.mark.skipif(sys.platform != "win32" and os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_unreadable(root: Path) -> None:
    path = root / "deep" / "er" / "a.png"
    path.chmod(0)
    with pytest.raises(FileUnreadable):
        content(path, root)


@posix
def test_links_are_followed_inside_and_not_out(root: Path) -> None:
    (root / "link.png").symlink_to("deep/er/a.png")
    (root / "folder").symlink_to("deep")
    (root.parent / "alias").symlink_to(root)
    assert content(root / "link.png", root) == b"picture"
    assert content(root / "folder" / "er" / "a.png", root) == b"picture"
    assert content(root.parent / "alias" / "link.png", root) == b"picture"
    assert content(root / "link.png", root.parent / "alias") == b"picture"
    (root / "out.png").symlink_to("../root-too/a.png")
    (root / "way").symlink_to(root.parent / "root-too")
    (root / "self.png").symlink_to("self.png")
    for name in ("out.png", "way/a.png"):
        with pytest.raises(PathOutsideRoots):
            content(root / name, root)
    with pytest.raises(FileUnreadable):
        content(root / "self.png", root)


@posix
@pytest.mark.parametrize("depth", [1, 2])
def test_a_link_that_takes_the_place_of_a_folder_meanwhile_leads_nowhere(root: Path, depth: int) -> None:
    """Somebody swaps the folder for a link out, again and again, while its file is opened."""
    place = root / "deep" if depth == 1 else root / "deep" / "er"
    inside = root.parent / "inside"
    trap = root.parent / "root-too"
    (trap / "er").mkdir()
    (trap / "er" / "a.png").write_bytes(SECRET)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            place.rename(inside)
            place.symlink_to(trap)
            place.unlink()
            inside.rename(place)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(content(root / "deep" / "er" / "a.png", root))
            except LorakeetError as error:
                seen.add(type(error).__name__.encode())
    finally:
        done.set()
        swapper.join(10)
    assert SECRET not in seen
    assert content(root / "deep" / "er" / "a.png", root) == b"picture"


@pytest.mark.parametrize("change", [b"", b"longer than before", b"as long"])
def test_a_file_that_changes_while_it_is_read_is_refused(change: bytes, root: Path) -> None:
    path = root / "deep" / "er" / "a.png"
    with opened(str(path), str(root)) as source:
        path.write_bytes(change)
        # Some file systems count time in steps that are longer than this test.
        os.utime(path, ns=(0, source.mtime_ns + 1_000_000_000))
        with pytest.raises(FileUnreadable, match="changed") as caught:
            source.sha256()
    assert caught.value.details == {"reason": "changed"}


def test_a_file_that_is_replaced_while_it_is_read_is_still_what_was_opened(root: Path) -> None:
    path = root / "deep" / "er" / "a.png"
    (root / "new.png").write_bytes(b"another")
    if sys.platform == "win32":
        return
    with opened(str(path), str(root)) as source:
        (root / "new.png").replace(path)
        assert source.sha256() == hashlib.sha256(b"picture").hexdigest()
