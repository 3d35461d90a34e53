"""The pictures of a run are all known before it begins, and bad ones by name."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from contract.errors import FileMissing, ImageInvalid, ImageTruncated, ManifestInvalid, NoImages
from contract.methods.job import ManifestItem
from contract.methods.training.captions import Captions
from contract.methods.training.data import TrainData
from contract.methods.training.subsets import Subset as SubsetSettings
from contract.rules.buckets import Size
from tests.builders.pictures import photo
from trainer.data.collection import Collection, Skipped, collect, decodable, listed_by, listed_in
from trainer.data.picture import look
from trainer.data.subset import Subset

EMPTY = Captions(missing="empty")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs, one of them with a caption."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("china", "coffee", "astronaut"):
        photo(name).save(folder / f"{name}.png")
    (folder / "china.txt").write_text("a temple")
    return folder


def subset(folder: Path, **settings: object) -> Subset:
    return Subset(name="a", folder=os.fspath(folder), **({"captions": EMPTY} | settings))  # type: ignore[arg-type]


def collected(*subsets: Subset, **settings: Any) -> Collection:
    return collect(listed_in(subsets), subsets, **settings)


def test_every_picture_is_known_with_its_size_subset_and_caption(folder: Path) -> None:
    twice = [subset(folder), subset(folder, repeats=3, class_tokens="thing")]
    seen: list[tuple[int, int]] = []
    pictures, skipped = collected(*twice, step=lambda done, total: seen.append((done, total)))
    assert not skipped
    assert [(os.path.basename(each.path), each.subset, each.repeats, each.caption) for each in pictures] == [
        ("astronaut.png", 0, 1, ""),
        ("china.png", 0, 1, "a temple"),
        ("coffee.png", 0, 1, ""),
        ("astronaut.png", 1, 3, "thing"),
        ("china.png", 1, 3, "a temple"),
        ("coffee.png", 1, 3, "thing"),
    ]
    assert pictures[1].size == Size(640, 427)
    assert pictures[1].sha256 == pictures[4].sha256 != pictures[0].sha256
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_bad_picture_is_refused_or_skipped_by_name(folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    with pytest.raises(ImageInvalid, match=r"bad\.png"):
        collected(subset(folder))
    pictures, skipped = collected(subset(folder), bad="skip")
    assert len(pictures) == 3
    assert [os.path.basename(each.path) for each in skipped] == ["bad.png"]


def test_a_picture_without_a_caption_is_as_the_subset_says(folder: Path) -> None:
    with pytest.raises(FileMissing, match=r"astronaut\.png"):
        collected(subset(folder, captions=Captions()))
    pictures, skipped = collected(subset(folder, captions=Captions(missing="skip")))
    assert [each.caption for each in pictures] == ["a temple"]
    assert len(skipped) == 2


def test_a_run_without_a_picture_that_can_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(NoImages, match=r"bad\.png"):
        collected(subset(tmp_path), bad="skip")


def test_pictures_that_turn_out_bad_later_are_taken_out(folder: Path) -> None:
    collection = collected(subset(folder))
    bad = Skipped(collection.pictures[0].path, ImageInvalid("bad"))
    fewer = collection.without([bad])
    assert fewer.pictures == collection.pictures[1:]
    assert fewer.skipped == [bad]
    with pytest.raises(NoImages):
        collection.without(Skipped(each.path, ImageInvalid("bad")) for each in collection.pictures)


def test_a_picture_that_ends_early_is_known_once_it_is_decoded(folder: Path) -> None:
    path = folder / "coffee.png"
    path.write_bytes(path.read_bytes()[:-20_000])
    collection = collected(subset(folder))
    with pytest.raises(ImageTruncated, match=r"coffee\.png"):
        decodable(collection)
    seen: list[tuple[int, int]] = []
    sound = decodable(collection, bad="skip", step=lambda done, total: seen.append((done, total)))
    assert [os.path.basename(each.path) for each in sound.pictures] == ["astronaut.png", "china.png"]
    assert [each.path for each in sound.skipped] == [os.fspath(path)]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_file_that_is_not_the_one_that_was_listed_is_refused(folder: Path) -> None:
    subsets = [subset(folder)]
    listed = [each._replace(sha256=look(each.path).sha256) for each in listed_in(subsets)]
    assert len(collect(listed, subsets).pictures) == 3
    shutil.copyfile(folder / "coffee.png", folder / "china.png")
    with pytest.raises(ManifestInvalid, match=r"china\.png"):
        collect(listed, subsets)
    assert len(collect(listed, subsets, bad="skip").pictures) == 2


def test_a_manifest_has_the_files_their_captions_and_their_subsets(folder: Path) -> None:
    china, coffee = (os.fspath(folder / name) for name in ("china.png", "coffee.png"))
    items = [
        ManifestItem(path=coffee, subset="2_cup", sha256=look(coffee).sha256),
        ManifestItem(path=china, caption="a temple"),
        ManifestItem(path=china, caption="", subset="2_cup"),
    ]
    listed, subsets = listed_by(items, [SubsetSettings(name="2_cup", flip=True)], TrainData(captions=EMPTY))
    pictures, _ = collect(listed, subsets)
    seen = [(each.path, each.caption, each.repeats, subsets[each.subset].flip) for each in pictures]
    assert seen == [(coffee, "cup", 2, True), (china, "a temple", 1, False), (china, "", 2, True)]


def test_what_ends_the_search_early_leaves_no_work_behind(folder: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise RuntimeError("canceled")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="canceled"):
        collected(subset(folder), step=cancel)
    assert threading.active_count() == before
