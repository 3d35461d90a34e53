"""The record of a run, and where a run begins."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import FileMissing, InvalidParams, WeightsDamaged
from contract.methods.training.run_record import RUN_RECORD, decode_run, encode_run
from tests.trainer.run import runs
from trainer.checkpoints.folder import Checkpoint, CheckpointFolder
from trainer.checkpoints.manifest import Position
from trainer.run.beginning import CHECKPOINTS, beginning
from trainer.run.record import RunFile, record_of
from trainer.run.request import Request

MODEL = Path("/model.safetensors")


def _asked(folder: Path, **tables: Any) -> Request:
    return runs.request(MODEL, folder / "source", folder, **tables)


def _kept(asked: Request, step: int) -> Checkpoint:
    folder = CheckpointFolder(f"{asked.folder}/{CHECKPOINTS}")
    return folder.save({"adapter": {"step": step}}, Position(step, 0, step), "settings")


def _begun(asked: Request, **fields: Any) -> RunFile:
    run = RunFile(asked.folder, record_of(asked))
    run.change(**fields)
    return run


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    asked = _asked(tmp_path)
    written = _begun(asked, files=["/a.safetensors"], stop_after=3).record
    assert decode_run(Path(asked.folder, RUN_RECORD).read_bytes()) == written
    assert record_of(asked) == written


def test_another_attempt_keeps_what_the_run_is_known_by(tmp_path: Path) -> None:
    before = _begun(_asked(tmp_path), finished=True).record
    longer = record_of(_asked(tmp_path, training={"steps": 9}))
    assert (longer.session, longer.started_at) == (before.session, before.started_at)
    assert (longer.settings.training.steps, longer.finished, longer.changed) == (9, False, True)


def test_what_changes_nothing_of_the_result_is_no_change(tmp_path: Path) -> None:
    _begun(_asked(tmp_path))
    assert not record_of(_asked(tmp_path, saving={"every_steps": 1})).changed


def test_a_change_of_the_result_is_one_for_good(tmp_path: Path) -> None:
    _begun(_asked(tmp_path))
    _begun(_asked(tmp_path, training={"steps": 9}))
    assert record_of(_asked(tmp_path, training={"steps": 9})).changed


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"name": "\xff"}', b"[" * 5000])
def test_a_damaged_record_is_told(raw: bytes, tmp_path: Path) -> None:
    asked = _asked(tmp_path)
    Path(asked.folder).mkdir()
    Path(asked.folder, RUN_RECORD).write_bytes(raw)
    with pytest.raises(WeightsDamaged, match=RUN_RECORD):
        record_of(asked)


def test_a_record_of_a_newer_version_is_told(tmp_path: Path) -> None:
    asked = _asked(tmp_path)
    record = _begun(asked).record
    Path(asked.folder, RUN_RECORD).write_bytes(encode_run(msgspec.structs.replace(record, format=99)))
    with pytest.raises(WeightsDamaged, match="newer version"):
        record_of(asked)


def test_a_file_that_is_gone_is_forgotten_with_the_next_change(tmp_path: Path) -> None:
    asked = _asked(tmp_path)
    run = _begun(asked, files=["/a.safetensors", "/b.safetensors"])
    run.forget_file("/a.safetensors")
    assert run.record.files == ["/b.safetensors"]
    assert record_of(asked).files == ["/a.safetensors", "/b.safetensors"]
    run.change(finished=True)
    assert record_of(asked).files == ["/b.safetensors"]


def test_a_run_begins_anew_or_at_its_newest_checkpoint(tmp_path: Path) -> None:
    asked, said = _asked(tmp_path), list[str]()
    assert beginning(asked, said.append) is None
    _kept(asked, 1)
    newest = _kept(asked, 2)
    assert beginning(asked, said.append) == newest
    assert said == []


def test_an_older_checkpoint_is_used_where_the_newest_is_damaged(tmp_path: Path) -> None:
    asked, said = _asked(tmp_path), list[str]()
    older = _kept(asked, 1)
    Path(_kept(asked, 2).path, "adapter.json").write_bytes(b"{}")
    assert beginning(asked, said.append) == older
    assert len(said) == 1
    assert said[0].endswith("An older one is used.")


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path: Path) -> None:
    """It would begin anew, and lose what somebody may still save."""
    asked, said = _asked(tmp_path), list[str]()
    Path(_kept(asked, 1).path, "adapter.json").write_bytes(b"{}")
    with pytest.raises(WeightsDamaged):
        beginning(asked, said.append)
    assert said == []


def test_a_checkpoint_of_another_run_is_for_one_that_has_none(tmp_path: Path) -> None:
    first, branch = _asked(tmp_path / "first"), _asked(tmp_path / "branch")
    _begun(first)
    taken = _kept(first, 1)
    asked = msgspec.structs.replace(branch, checkpoint=f"{taken.path}/")
    assert beginning(asked, print) == taken
    assert record_of(asked).origin == f"{taken.path}/"
    own = _kept(asked, 2)
    assert beginning(asked, print) == own


def test_the_checkpoint_of_a_run_with_other_settings_is_refused_by_field(tmp_path: Path) -> None:
    first = _asked(tmp_path / "first")
    _begun(first)
    branch = _asked(tmp_path / "branch", network={"rank": 8})
    with pytest.raises(InvalidParams) as refused:
        beginning(msgspec.structs.replace(branch, checkpoint=_kept(first, 1).path), print)
    assert refused.value.where == "$.params.settings.network.rank"


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(_asked(tmp_path), checkpoint=str(tmp_path))
    with pytest.raises(FileMissing, match=tmp_path.name):
        beginning(asked, print)
