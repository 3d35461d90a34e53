"""Roots: nothing outside of them can be named, whatever the name and whoever moves links about meanwhile."""

import os
import sys
import threading
from pathlib import Path

import pytest

from contract.errors import FileMissing, FileUnreadable, InvalidParams, LorakeetError, PathOutsideRoots
from orchestrator.files.beneath import READ, opened_folder
from orchestrator.files.roots import Roots
from orchestrator.settings import Root
from tests.orchestrator.traversal import CANARY, OUTSIDE, PAYLOADS, SECRET, plant, swap

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    plant(folder)
    return folder


@pytest.fixture
def roots(tmp_path: Path, photos: Path) -> Roots:
    listed = [Root(id="photos", path=str(photos))]
    return Roots(tmp_path / "home", lambda: listed)


def test_there_are_enough_payloads() -> None:
    assert len(PAYLOADS) >= 300
    assert len(set(PAYLOADS)) == len(PAYLOADS)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_names_anything(roots: Roots, payload: str) -> None:
    with pytest.raises((PathOutsideRoots, FileMissing, InvalidParams, FileUnreadable)) as raised:
        roots.resolve("photos", payload)
    assert raised.value.where is not None
    assert raised.value.where.startswith(("photos:", "file:"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_need_not_exist_still_lies_below_the_root(roots: Roots, photos: Path, payload: str) -> None:
    try:
        path = roots.resolve("photos", payload, must_exist=False)
    except LorakeetError:
        return
    assert os.path.realpath(path).startswith(f"{photos}/")


def test_a_file_and_a_folder_are_found(roots: Roots, photos: Path) -> None:
    assert roots.resolve("photos", "photo.png") == photos / "photo.png"
    assert roots.resolve("photos", "folder/photo.png") == photos / "folder" / "photo.png"
    assert roots.resolve("photos", "folder") == photos / "folder"
    assert roots.resolve("photos", "new/name.png", must_exist=False) == photos / "new" / "name.png"


def test_a_root_may_itself_be_reached_by_a_link(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "shortcut").symlink_to(photos)
    roots = Roots(tmp_path / "home", lambda: [Root(id="photos", path=str(tmp_path / "shortcut"))])
    assert roots.resolve("photos", "photo.png") == photos / "photo.png"


@pytest.mark.parametrize("root", ["", "nothing", "home", "secrets", "../photos", "PHOTOS", "caches", "a\0"])
def test_an_unknown_root_is_refused(roots: Roots, root: str) -> None:
    with pytest.raises(InvalidParams):
        roots.resolve(root, "photo.png")


def test_a_root_whose_folder_is_gone_is_missing(tmp_path: Path) -> None:
    roots = Roots(tmp_path / "home", lambda: [Root(id="photos", path=str(tmp_path / "gone"))])
    with pytest.raises(FileMissing):
        roots.resolve("photos", "photo.png")


def test_the_data_directory_is_private_even_inside_a_root(tmp_path: Path) -> None:
    home = tmp_path / "lorakeet"
    roots = Roots(home, lambda: [Root(id="everything", path=str(tmp_path))])
    for name in ("secrets", "control.db", "datasets/cats/a.png"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(CANARY)
    for name in ("lorakeet/secrets", "lorakeet/control.db", "lorakeet", "lorakeet/uploads"):
        with pytest.raises(PathOutsideRoots):
            roots.resolve("everything", name, must_exist=False)
    assert roots.resolve("everything", "lorakeet/datasets/cats/a.png").exists()
    assert roots.resolve("datasets", "cats/a.png").exists()


def test_a_path_is_granted_where_it_really_lies(roots: Roots, photos: Path) -> None:
    assert roots.grants(str(photos / "photo.png"))
    assert not roots.grants(str(photos / "link-to-file.png"))
    assert not roots.grants(str(photos.parent / OUTSIDE / SECRET))
    assert roots.named(photos / "folder" / "photo.png") == ("photos", "folder/photo.png")
    assert roots.named(photos.parent / OUTSIDE) is None


def test_who_swaps_folders_for_links_gets_nothing_read(roots: Roots, photos: Path) -> None:
    outside = photos.parent / OUTSIDE
    (outside / "photo.png").write_bytes(CANARY)
    (photos / "link").symlink_to(outside)
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(photos / "folder", photos / "link", stop))
    swapper.start()
    read, refused = 0, 0
    try:
        for _ in range(3_000):
            try:
                roots.resolve("photos", "folder/photo.png")
                with opened_folder(str(photos), ["folder"]) as folder:
                    with open(folder.open("photo.png", READ), "rb") as file:
                        assert file.read() == b"inside"
                read += 1
            except (LorakeetError, OSError):
                refused += 1
    finally:
        stop.set()
        swapper.join(10)
    assert read
    assert refused
