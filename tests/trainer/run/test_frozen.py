"""The pictures of a run stay what they were when it began."""

from pathlib import Path
from typing import Any

import pytest

from contract.errors import FileMissing, ManifestInvalid
from contract.methods.job import ManifestItem
from tests.trainer.run import runs
from trainer.run.frozen import PICTURES, Pictures, pictures_now, pictures_of
from trainer.run.record import RunFile, record_of
from trainer.run.request import Request

MODEL = Path("/model.safetensors")


def _told(done: int, total: int) -> None:
    """Nobody listens."""


def _of(asked: Request) -> Pictures:
    return pictures_of(asked, _told)


def _begun(asked: Request) -> Pictures:
    """As they are once the first attempt has come to its first step."""
    found = _of(asked)
    RunFile(asked.folder, record_of(asked)).change()
    return found


def _captions(found: Pictures) -> list[str]:
    return [each.caption for each in found.collection.pictures]


def _break(path: Path) -> None:
    path.write_bytes(b"no picture")


def test_every_attempt_has_the_same_pictures_and_captions(source: Path, tmp_path: Path) -> None:
    asked = runs.request(MODEL, source, tmp_path)
    first = _begun(asked)
    (source / "2_cat/0.txt").write_text("something else")
    (source / "2_cat/new.png").write_bytes((source / "2_cat/0.png").read_bytes())
    assert _of(asked) == first
    assert [each.repeats for each in first.collection.pictures] == [2, 2, 2, 2]


def test_before_a_run_has_begun_its_folders_are_looked_at_again(source: Path, tmp_path: Path) -> None:
    asked = runs.request(MODEL, source, tmp_path)
    _of(asked)
    (source / "2_cat/0.txt").write_text("something else")
    assert _captions(_of(asked))[0] == "something else"


def test_a_look_ahead_writes_nothing_of_the_run(source: Path, tmp_path: Path) -> None:
    asked = runs.request(MODEL, source, tmp_path)
    assert _captions(pictures_now(asked, _told)) == _captions(_of(asked))
    assert (Path(asked.folder) / PICTURES).exists()
    other = runs.request(MODEL, source, tmp_path / "other")
    pictures_now(other, _told)
    assert not Path(other.folder).exists()


def test_pictures_that_are_left_out_are_named_by_the_first_attempt(source: Path, tmp_path: Path) -> None:
    _break(source / "2_cat/1.png")
    asked = runs.request(MODEL, source, tmp_path, data={"bad_images": "skip"})
    assert [Path(each.path).name for each in _begun(asked).collection.skipped] == ["1.png"]
    assert _of(asked).collection.skipped == []


def test_pictures_that_went_bad_since_are_named_too(source: Path, tmp_path: Path) -> None:
    asked = runs.request(MODEL, source, tmp_path, data={"bad_images": "skip"})
    _begun(asked)
    _break(source / "2_cat/1.png")
    assert [Path(each.path).name for each in _of(asked).collection.skipped] == ["1.png"]


def test_a_picture_that_was_changed_since_is_refused_by_its_name(source: Path, tmp_path: Path) -> None:
    asked = runs.request(MODEL, source, tmp_path)
    _begun(asked)
    (source / "2_cat/1.png").write_bytes((source / "2_cat/0.png").read_bytes())
    with pytest.raises(ManifestInvalid, match=r"1\.png"):
        _of(asked)


@pytest.mark.parametrize(
    "tables", [{"data": {"random_crop": True}}, {"caching": {"latents": "off"}}], ids=str
)
def test_what_is_decoded_in_every_step_is_decoded_once_before(
    tables: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    path = source / "2_cat/1.png"
    path.write_bytes(path.read_bytes()[:-300])
    tables = {**tables, "data": {**tables.get("data", {}), "bad_images": "skip"}}
    found = _of(runs.request(MODEL, source, tmp_path, **tables))
    assert [Path(each.path).name for each in found.collection.skipped] == ["1.png"]


@pytest.mark.parametrize("raw", [b"{}\n", b'{"path": "\xff"}\n', b"[" * 5000])
def test_a_damaged_list_is_told(raw: bytes, source: Path, tmp_path: Path) -> None:
    asked = runs.request(MODEL, source, tmp_path)
    _begun(asked)
    (Path(asked.folder) / PICTURES).write_bytes(raw)
    with pytest.raises(ManifestInvalid, match=PICTURES):
        _of(asked)


def test_a_list_of_somebody_else_must_have_the_subsets_of_the_settings(source: Path, tmp_path: Path) -> None:
    items = [ManifestItem(path=str(source / "2_cat/0.png"), caption="a cat", subset="2_cat")]
    tables = {"subsets": [{"name": "2_cat"}, {"name": "dogs"}]}
    asked = runs.request(MODEL, source, tmp_path, **tables)
    listed = Request(
        **{
            name: getattr(asked, name) for name in asked.__struct_fields__ if name not in ("folders", "items")
        },
        items=items,
    )
    with pytest.raises(FileMissing, match="dogs") as missing:
        _of(listed)
    assert missing.value.where == "$.params.settings.subsets[1].name"
