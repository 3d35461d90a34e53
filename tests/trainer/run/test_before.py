"""What is refused before torch is loaded, and what is left to the run."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import (
    FileMissing,
    FileUnwritable,
    InvalidParams,
    LorakeetError,
    NoImages,
    OutputExists,
    PathOutsideRoots,
)
from contract.methods.job import ManifestItem
from contract.rules.paths import to_wire
from tests.trainer.run import runs
from trainer.run.alone import alone_in
from trainer.run.before import check_before
from trainer.run.frozen import PICTURES
from trainer.run.record import RunFile, record_of
from trainer.run.request import Request

MODEL = Path("/model.safetensors")
SETTINGS = "$.params.settings"


@pytest.fixture
def asked(source: Path, tmp_path: Path) -> Request:
    return runs.request(MODEL, source, tmp_path)


def refused(asked: Request, error: type[LorakeetError]) -> str | None:
    """Where."""
    with pytest.raises(error) as told:
        check_before(asked)
    return told.value.where


def changed(asked: Request, **tables: Any) -> Request:
    settings = msgspec.convert({**msgspec.to_builtins(asked.settings), **tables}, type(asked.settings))
    return msgspec.structs.replace(asked, settings=settings)


def begun(asked: Request, **fields: Any) -> RunFile:
    run = RunFile(asked.folder, record_of(asked))
    run.change(**fields)
    return run


def test_a_run_that_can_begin_is_let_through_and_nothing_is_written(asked: Request, tmp_path: Path) -> None:
    check_before(asked)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source"]


def test_pictures_that_cannot_be_had(asked: Request, source: Path) -> None:
    nowhere = msgspec.structs.replace(asked, folders=[str(source / "gone")])
    assert refused(nowhere, FileMissing) == str(source / "gone")
    assert refused(changed(asked, subsets=[{"name": "dog"}]), FileMissing) == f"{SETTINGS}.subsets[0].name"
    items = [ManifestItem(path=to_wire(str(source / "2_cat/0.png")), subset="2_cat")]
    listed = msgspec.structs.replace(changed(asked, subsets=[{"name": "dog"}]), folders=None, items=items)
    assert refused(listed, FileMissing) == f"{SETTINGS}.subsets[0].name"


def test_an_empty_source(asked: Request, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = msgspec.structs.replace(asked, folders=[str(tmp_path / "empty")])
    assert refused(empty, NoImages) == str(tmp_path / "empty")


def test_a_picture_without_a_text(asked: Request, source: Path) -> None:
    folder = (source / "2_cat").rename(source / "cats")
    (folder / "1.txt").unlink()
    assert refused(asked, FileMissing) == str(folder / "1.png")
    check_before(changed(asked, data={"captions": {"missing": "skip"}}))
    for each in folder.glob("*.txt"):
        each.unlink()
    assert refused(changed(asked, data={"captions": {"missing": "skip"}}), NoImages) is None


def test_a_text_from_outside_of_the_roots(asked: Request, source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("nobody's business")
    (source / "2_cat/1.txt").unlink()
    (source / "2_cat/1.txt").symlink_to(tmp_path / "secret.txt")
    bound = msgspec.structs.replace(asked, roots=[str(source)])
    assert refused(bound, PathOutsideRoots) == str(source / "2_cat/1.txt")


def test_an_output_that_is_taken(asked: Request) -> None:
    Path(asked.output).write_bytes(b"somebody's")
    assert refused(asked, OutputExists) == asked.output
    check_before(msgspec.structs.replace(asked, overwrite=True))
    begun(asked, files=[to_wire(asked.output)])
    check_before(asked)


def test_settings_of_another_run(asked: Request) -> None:
    begun(asked)
    check_before(changed(asked, training={"steps": 9}))
    other = changed(asked, network={"type": "lora", "rank": 5})
    assert refused(other, InvalidParams) == f"{SETTINGS}.network.rank"


def test_a_checkpoint_of_a_run_unlike_this(asked: Request, tmp_path: Path) -> None:
    begun(asked)
    checkpoint = Path(asked.folder, "checkpoints", "00001-step-00000004")
    checkpoint.mkdir(parents=True)
    there = msgspec.structs.replace(asked, folder=str(tmp_path / "next"), checkpoint=str(checkpoint))
    check_before(there)
    other = changed(there, network={"type": "lora", "rank": 5})
    assert refused(other, InvalidParams) == f"{SETTINGS}.network.rank"
    # A run that has begun goes on from its own.
    begun(other)
    check_before(other)


def test_a_run_that_is_going_on(asked: Request) -> None:
    with alone_in(asked.folder):
        assert refused(asked, FileUnwritable) == asked.folder
    check_before(asked)


def test_a_run_that_has_begun_looks_for_its_pictures_no_more(asked: Request, source: Path) -> None:
    begun(asked)
    Path(asked.folder, PICTURES).write_bytes(b"")
    gone = source.rename(source.with_name("gone"))
    check_before(asked)
    # A plan is one of what is there now.
    assert refused(msgspec.structs.replace(asked, plan_only=True), FileMissing) == str(source)
    gone.rename(source)
    check_before(msgspec.structs.replace(asked, plan_only=True))


def test_a_plan_writes_nothing_and_so_nothing_is_in_its_way(asked: Request) -> None:
    Path(asked.output).write_bytes(b"")
    check_before(msgspec.structs.replace(asked, plan_only=True))
