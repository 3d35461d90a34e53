import os
import sys
from pathlib import Path

import pytest

from contract.errors import FileMissing, FileUnreadable, NoImages
from orchestrator.files.folders import collisions, find_images, links_out


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _found(folder: Path, *, recursive: bool = False) -> list[str]:
    images = find_images(str(folder), recursive=recursive, extension=".txt")
    return [os.path.relpath(image.path, folder).replace(os.sep, "/") for image in images]


links = pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")


def test_images_are_found_by_their_ending_in_any_case_and_sorted(tmp_path: Path) -> None:
    _touch(tmp_path, "b.PNG", "a.jpg", "c.txt", "d.safetensors", "e.WebP", "noending")
    assert _found(tmp_path) == ["a.jpg", "b.PNG", "e.WebP"]


def test_deeper_folders_are_looked_into_only_when_asked(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "10_cat/b.jpg", "10_cat/more/c.jpg")
    assert _found(tmp_path) == ["a.jpg"]
    assert _found(tmp_path, recursive=True) == ["10_cat/b.jpg", "10_cat/more/c.jpg", "a.jpg"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", ".thumbnail.jpg", ".cache/b.jpg")
    assert _found(tmp_path, recursive=True) == ["a.jpg"]


@links
def test_a_link_to_a_folder_is_not_followed_in_circles(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    assert _found(tmp_path, recursive=True) == ["a.jpg"]


def test_a_folder_without_images_is_refused_and_the_deeper_ones_are_hinted_at(tmp_path: Path) -> None:
    _touch(tmp_path, "deeper/a.jpg", "notes.txt")
    with pytest.raises(NoImages) as caught:
        _found(tmp_path)
    assert caught.value.where == str(tmp_path)
    assert "--recursive" in str(caught.value.hint)


def test_a_folder_that_is_not_there_or_no_folder_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg")
    with pytest.raises(FileMissing):
        _found(tmp_path / "none")
    with pytest.raises(FileUnreadable):
        _found(tmp_path / "a.jpg")


def test_the_caption_stands_beside_its_image(tmp_path: Path) -> None:
    _touch(tmp_path, "my.photo.jpg")
    (image,) = find_images(str(tmp_path), recursive=False, extension=".caption")
    assert image.caption == str(tmp_path / "my.photo.caption")


def test_images_that_would_share_a_caption_are_all_named(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "a.png", "b.jpg", "deeper/b.jpg")
    found = collisions(find_images(str(tmp_path), recursive=True, extension=".txt"))
    assert {os.path.basename(path) for path in found} == {"a.jpg", "a.png"}
    assert all("a.jpg, a.png" in error.message for error in found.values())


@links
def test_links_that_lead_out_of_the_folder_are_found_and_others_are_not(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    _touch(inside, "a.jpg")
    _touch(outside, "b.jpg")
    (inside / "same.jpg").symlink_to("a.jpg")
    (inside / "away.jpg").symlink_to(outside / "b.jpg")
    (inside / "broken.jpg").symlink_to("nowhere.jpg")
    found = links_out(find_images(str(inside), recursive=False, extension=".txt"), str(inside))
    assert [os.path.basename(path) for path in found] == ["away.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode on Windows and macOS")
def test_names_that_are_not_unicode_are_found(tmp_path: Path) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg"), "wb"):
        pass
    (image,) = find_images(str(tmp_path), recursive=False, extension=".txt")
    assert os.fsencode(image.path).endswith(b"caf\xe9.jpg")
