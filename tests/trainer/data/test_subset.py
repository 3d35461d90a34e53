"""Pictures and their captions are found as people keep them."""

import os
import sys
from pathlib import Path

import pytest

from contract.errors import FileMissing, FileUnreadable, ManifestInvalid, NoImages
from contract.methods.training.captions import Captions
from contract.methods.training.data import TrainData
from contract.methods.training.subsets import Subset as SubsetSettings
from tests.builders.pictures import photo
from trainer.data.subset import Subset, pictures_in, subsets_of


def put(folder: Path, *names: str) -> Path:
    """Small photographs under these names."""
    folder.mkdir(parents=True, exist_ok=True)
    image = photo("astronaut").resize((64, 64))
    for name in names:
        image.save(folder / name)
    return folder


def captions(folder: Path, **settings: object) -> dict[str, str | None]:
    subset = Subset(name="a", folder=os.fspath(folder), **settings)  # type: ignore[arg-type]
    return {os.path.relpath(path, folder): caption for path, caption in pictures_in(subset)}


def test_captions_stand_beside_pictures_in_either_ending(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.JPG", "c.x.webp", "d.png")
    (tmp_path / "a.txt").write_bytes("\ufeffa dög\r\n".encode())
    (tmp_path / "b.caption").write_text("b\n")
    (tmp_path / "c.x.txt").write_text("c")
    (tmp_path / "c.x.caption").write_text("not this one")
    (tmp_path / ".hidden.png").write_text("")
    (tmp_path / "folder.png").mkdir()
    assert captions(tmp_path) == {"a.png": "a dög", "b.JPG": "b", "c.x.webp": "c", "d.png": None}


def test_a_file_of_lines_has_captions_and_its_place_in_the_settings_counts(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_text("beside")
    lines = ['{"file_name": "a.png", "text": "line"}', "", '{"file_name": "b.png", "caption": "b", "n": 1}']
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert captions(tmp_path) == {"a.png": "beside", "b.png": "b", "c.png": None}
    first = Captions(files=("metadata.jsonl", ".txt"))
    assert captions(tmp_path, captions=first, class_tokens="dog") == {
        "a.png": "line",
        "b.png": "b",
        "c.png": "dog",
    }


def test_a_file_of_lines_may_name_pictures_in_folders_below_it(tmp_path: Path) -> None:
    put(tmp_path / "train", "a.png", "b.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "train/a.png", "text": "above"}\n{"file_name": "./train/b.png", "text": "above"}'
    )
    (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "here"}')
    assert list(captions(tmp_path).values()) == ["above", "here"]


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{"text": "no name"}\n')
    with pytest.raises(ManifestInvalid, match="metadata.jsonl:2"):
        captions(tmp_path)


def test_a_caption_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.txt").write_bytes("dög".encode("latin-1"))
    with pytest.raises(FileUnreadable, match=r"a\.txt"):
        captions(tmp_path)


def test_folders_in_folders_are_read_apart_from_hidden_and_linked_ones(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    put(tmp_path / "more" / "still", "b.png")
    put(tmp_path / ".hidden", "c.png")
    put(tmp_path / "apart", "d.png")
    (tmp_path / "more" / "still" / "b.txt").write_text("b")
    (tmp_path / "more" / "loop").symlink_to(tmp_path)
    apart = frozenset([os.fspath(tmp_path / "apart")])
    assert captions(tmp_path, apart=apart) == {"a.png": None, os.path.join("more", "still", "b.png"): "b"}


def subsets(source: Path, *settings: SubsetSettings, data: TrainData | None = None) -> dict[str, Subset]:
    return {each.name: each for each in subsets_of([os.fspath(source)], settings, data)}


def test_named_folders_say_repeats_and_class(tmp_path: Path) -> None:
    for name in ("10_sks dog", "2_cat_b", "0_left out", "plain"):
        put(tmp_path / name, "a.png")
    (tmp_path / "3_file").write_text("")
    found = subsets(tmp_path)
    assert {name: (each.repeats, each.class_tokens) for name, each in found.items()} == {
        tmp_path.name: (1, None),
        "10_sks dog": (10, "sks dog"),
        "2_cat_b": (2, "cat_b"),
    }
    assert [path for path, _ in pictures_in(found[tmp_path.name])] == [
        os.fspath(tmp_path / "plain" / "a.png")
    ]


def test_a_source_of_named_folders_alone_is_no_subset_itself(tmp_path: Path) -> None:
    put(tmp_path / "10_dog", "a.png")
    put(tmp_path / "0_off", "a.png")
    assert list(subsets(tmp_path)) == ["10_dog"]


def test_settings_of_a_subset_stand_before_its_name_and_that_before_the_rest(tmp_path: Path) -> None:
    put(tmp_path / "10_dog", "a.png")
    put(tmp_path / "styles" / "4_ink", "b.png")
    put(tmp_path / "styles" / "oil", "c.png")
    found = subsets(
        tmp_path,
        SubsetSettings(name="10_dog", repeats=3, flip=False, prefix="sks, "),
        SubsetSettings(name="styles/4_ink", class_tokens="ink drawing"),
        data=TrainData(flip=True, captions=Captions(shuffle=True)),
    )
    dog, ink, rest = found["10_dog"], found["styles/4_ink"], found[tmp_path.name]
    assert (dog.repeats, dog.class_tokens, dog.flip) == (3, "dog", False)
    assert dog.captions == Captions(shuffle=True, prefix="sks, ")
    assert (ink.repeats, ink.class_tokens, ink.flip) == (4, "ink drawing", True)
    assert (rest.repeats, rest.class_tokens) == (1, None)
    assert [os.path.basename(path) for path, _ in pictures_in(rest)] == ["c.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["a\\b", "c:", "3_x\ny", "5_\udcff", "🦜"], ids=ascii)
def test_a_source_may_have_any_name(name: str, tmp_path: Path) -> None:
    put(tmp_path / name, "a.png")
    (found,) = subsets_of([os.fspath(tmp_path / name)])
    assert found.name == name and len(pictures_in(found)) == 1


def test_a_source_without_pictures_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path / "0_off", "a.png")
    with pytest.raises(NoImages, match=tmp_path.name):
        subsets(tmp_path)


def test_settings_of_a_subset_that_is_not_there_are_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(FileMissing, match="nowhere"):
        subsets(tmp_path, SubsetSettings(name="nowhere"))


def test_an_empty_or_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NoImages) as empty:
        captions(tmp_path)
    assert empty.value.where == os.fspath(tmp_path)
    with pytest.raises(FileMissing, match="nowhere"):
        captions(tmp_path / "nowhere")
    with pytest.raises(FileUnreadable):
        pictures_in(Subset(name="a", folder=os.fspath(put(tmp_path, "a.png") / "a.png")))
