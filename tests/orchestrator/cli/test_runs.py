"""Which run of a data directory a training goes on in."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.errors import FileMissing, NotFound, StateConflict
from contract.methods.job import ManifestItem
from contract.methods.train import TrainSettings
from contract.methods.training.loop import Training
from contract.methods.training.model import TrainModel
from contract.methods.training.run_record import RUN_RECORD, RunRecord, encode_run
from contract.methods.weights import WeightsFile
from orchestrator.cli.runs import PICTURES, Chosen, Wanted, anew, begun_at, going_on, resumed


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    settings = TrainSettings(
        model=TrainModel(base=WeightsFile(path="/m.safetensors")), training=Training(epochs=1)
    )
    (tmp_path / "pictures").mkdir()
    return Wanted("cat", settings, [str(tmp_path / "pictures")], "/made/cat.safetensors")


def _begun(home: Path, folder: str, wanted: Wanted, **more: Any) -> Path:
    run = home / "runs" / folder
    run.mkdir(parents=True)
    facts: dict[str, Any] = {"name": wanted.name, "settings": wanted.settings, "output": wanted.output}
    record = RunRecord(**facts | {"started_at": 1.0, "session": 1} | more)
    (run / RUN_RECORD).write_bytes(encode_run(record))
    lines = [ManifestItem(path=f"{folder}/1.png") for folder in wanted.folders]
    (run / PICTURES).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return run


def _checkpoint(run: Path, name: str, *, whole: bool = True) -> Path:
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    if whole:
        (folder / "manifest.json").touch()
    return folder


def test_runs_of_a_name_are_numbered_and_a_refused_one_takes_none(tmp_path: Path, wanted: Wanted) -> None:
    assert anew(tmp_path, "cat") == Chosen(tmp_path / "runs" / "cat")
    _begun(tmp_path, "cat", wanted)
    assert anew(tmp_path, "cat").folder.name == "cat-2"
    _begun(tmp_path, "cat-2", wanted)
    _begun(tmp_path, "cat-10", wanted)
    (tmp_path / "runs" / "cat-3").mkdir()
    assert anew(tmp_path, "cat").folder.name == "cat-3"


def test_an_unfinished_run_of_equal_settings_goes_on(tmp_path: Path, wanted: Wanted) -> None:
    assert going_on(tmp_path, wanted) is None
    run = _begun(tmp_path, "cat", wanted)
    assert going_on(tmp_path, wanted) == Chosen(run, True)
    _checkpoint(run, "00009-step-00000090")
    _checkpoint(run, "00010-step-00000040")
    _checkpoint(run, "00011-step-00000050", whole=False)
    assert going_on(tmp_path, wanted) == Chosen(run, True, at=40)


def test_another_training_of_that_name_does_not(tmp_path: Path, wanted: Wanted) -> None:
    _begun(tmp_path, "cat", wanted)
    other = msgspec.structs.replace(wanted.settings, training=Training(epochs=2))
    assert going_on(tmp_path, wanted._replace(settings=other)) is None
    assert going_on(tmp_path, wanted._replace(output="/elsewhere/cat.safetensors")) is None
    assert going_on(tmp_path, wanted._replace(folders=[str(tmp_path)])) is not None
    more = [*wanted.folders, str(tmp_path / "more")]
    assert going_on(tmp_path, wanted._replace(folders=more)) is None
    assert going_on(tmp_path, wanted._replace(folders=[str(tmp_path / "more")])) is None
    assert going_on(tmp_path, wanted._replace(name="ca")) is None
    # The newest counts, and not one that is only called like a second run.
    _begun(tmp_path, "cat-2", wanted, name="cat-2")
    assert going_on(tmp_path, wanted) is not None
    _begun(tmp_path, "cat-3", wanted, finished=True)
    assert going_on(tmp_path, wanted) is None


def test_resuming_takes_the_newest_run_whatever_its_settings(tmp_path: Path, wanted: Wanted) -> None:
    with pytest.raises(NotFound, match="no checkpoint of a run `cat`"):
        resumed(tmp_path, "cat")
    _checkpoint(_begun(tmp_path, "cat", wanted), "00001-step-00000003")
    run = _begun(tmp_path, "cat-2", wanted, finished=True)
    with pytest.raises(NotFound):
        resumed(tmp_path, "cat")
    _checkpoint(run, "00001-step-00000012")
    assert resumed(tmp_path, "cat") == Chosen(run, True, at=12)


def test_a_checkpoint_begins_a_new_run(tmp_path: Path, wanted: Wanted) -> None:
    run = _begun(tmp_path, "cat", wanted)
    checkpoint = _checkpoint(run, "00001-step-00000012")
    new = Chosen(tmp_path / "runs" / "cat-2", checkpoint=checkpoint, at=12)
    for named in (run, checkpoint, checkpoint / "manifest.json"):
        assert begun_at(tmp_path, "cat", str(named)) == new
    with pytest.raises(FileMissing, match="no checkpoint in"):
        begun_at(tmp_path, "cat", str(tmp_path))


def test_a_record_that_cannot_be_read_is_no_reason_to_begin_anew_silently(
    tmp_path: Path, wanted: Wanted
) -> None:
    run = _begun(tmp_path, "cat", wanted)
    (run / RUN_RECORD).write_bytes(b"{")
    with pytest.raises(StateConflict, match="damaged, or of a newer version"):
        going_on(tmp_path, wanted)
    assert anew(tmp_path, "cat").folder.name == "cat-2"
