"""A link among the pictures fetches nothing from outside of what was granted."""

import os
from pathlib import Path

import pytest

from contract.errors import NoImages, PathOutsideRoots
from contract.methods.training.captions import Captions
from tests.trainer.data.test_subset import put
from trainer.data.bounds import ANYWHERE, Bounds
from trainer.data.collection import Bad, Collection, collect, listed_in
from trainer.data.subset import Subset, subsets_of

PLAIN = Captions()
SECRET = "the words of somebody else"


@pytest.fixture
def granted(tmp_path: Path) -> Path:
    """A folder with one picture and its text."""
    folder = put(tmp_path / "granted", "a.png")
    (folder / "a.txt").write_text("a man")
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must not be read."""
    folder = put(tmp_path / "outside", "b.png")
    (folder / "b.txt").write_text(SECRET)
    (folder / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": "{SECRET}"}}\n')
    return folder


def found(folder: Path, bounds: Bounds, bad: Bad = "refuse", captions: Captions = PLAIN) -> Collection:
    subsets = [Subset(name="a", folder=os.fspath(folder), class_tokens="x", captions=captions)]
    return collect(listed_in(subsets, bounds), subsets, bounds=bounds, bad=bad)


def told(folder: Path, captions: Captions = PLAIN) -> PathOutsideRoots:
    with pytest.raises(PathOutsideRoots) as caught:
        found(folder, Bounds([os.fspath(folder)]), captions=captions)
    assert "outside/" not in str(caught.value.to_wire())
    return caught.value


def test_a_picture_from_outside_is_refused_or_left_out(granted: Path, outside: Path) -> None:
    link = granted / "b.png"
    link.symlink_to(outside / "b.png")
    assert told(granted).where == str(link)
    collection = found(granted, Bounds([os.fspath(granted)]), bad="skip")
    assert [os.path.basename(each.path) for each in collection.pictures] == ["a.png"]
    assert [(each.path, type(each.error)) for each in collection.skipped] == [(str(link), PathOutsideRoots)]
    assert len(found(granted, ANYWHERE).pictures) == 2


def test_a_text_from_outside_is_refused(granted: Path, outside: Path) -> None:
    (granted / "a.txt").unlink()
    (granted / "a.txt").symlink_to(outside / "b.txt")
    assert told(granted).where == str(granted / "a.txt")
    assert found(granted, ANYWHERE).pictures[0].caption == SECRET


def test_a_list_of_texts_from_outside_is_refused(granted: Path, outside: Path) -> None:
    (granted / "metadata.jsonl").symlink_to(outside / "metadata.jsonl")
    captions = Captions(files=("metadata.jsonl",))
    assert told(granted, captions=captions).where == str(granted / "metadata.jsonl")
    assert found(granted, ANYWHERE, captions=captions).pictures[0].caption == SECRET


def test_a_subset_from_outside_is_refused(granted: Path, outside: Path) -> None:
    link = granted / "3_cat"
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(PathOutsideRoots) as caught:
        subsets_of([os.fspath(granted)], bounds=Bounds([os.fspath(granted)]))
    assert caught.value.where == str(link)
    assert len(subsets_of([os.fspath(granted)])) == 2


def test_links_within_what_was_granted_are_followed(granted: Path, outside: Path) -> None:
    for name in ("b.png", "b.txt"):
        (granted / name).symlink_to(outside / name)
    both = Bounds([os.fspath(granted), os.fspath(outside)])
    assert [each.caption for each in found(granted, both).pictures] == ["a man", SECRET]


def test_a_source_of_nothing_but_such_links_has_no_pictures(granted: Path, outside: Path) -> None:
    (granted / "a.png").unlink()
    (granted / "b.png").symlink_to(outside / "b.png")
    with pytest.raises(NoImages):
        found(granted, Bounds([os.fspath(granted)]), bad="skip")
