"""The files of weights of a run: their names, and whose they are."""

import os
from pathlib import Path
from typing import Any

import pytest

from contract.errors import FileUnwritable, OutputExists
from contract.methods.train import SavedFile
from tests.trainer.run import runs
from trainer.run.occasions import Occasions
from trainer.run.outputs import Outputs
from trainer.run.record import RunFile, record_of

MODEL = Path("/model.safetensors")
#: Files after steps 2, 4, 6 and 8 of 10, and after epochs of 4 steps.
SAVING = {"every_steps": 2, "every_epochs": 1}


def _run(folder: Path, **fields: Any) -> RunFile:
    asked = runs.request(MODEL, folder / "source", folder, saving=SAVING)
    run = RunFile(asked.folder, record_of(asked))
    run.change(**fields)
    return run


def _outputs(run: RunFile, *, overwrite: bool = False) -> Outputs:
    return Outputs(run.record.output, run, overwrite=overwrite)


def _occasions(run: RunFile) -> Occasions:
    return Occasions(run.record.settings, per_epoch=4, total=10)


def _saved(path: Path) -> SavedFile:
    path.touch()
    return SavedFile(file=str(path), bytes=0, sha256="", step=1)


def test_files_are_named_as_programs_sort_them(tmp_path: Path) -> None:
    outputs = _outputs(_run(tmp_path))
    assert outputs.of_epoch(3) == str(tmp_path / "cat-000003.safetensors")
    assert outputs.of_step(1200) == str(tmp_path / "cat-step00001200.safetensors")


@pytest.mark.parametrize("name", ["cat-step00000004.safetensors", "cat-000001.safetensors"])
def test_a_file_that_would_be_written_over_is_refused_before_the_first_step(
    name: str, tmp_path: Path
) -> None:
    run = _run(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(OutputExists, match=name):
        _outputs(run).check_on_the_way(_occasions(run))
    _outputs(run, overwrite=True).check_on_the_way(_occasions(run))
    run.change(files=[str(tmp_path / name)])
    _outputs(run).check_on_the_way(_occasions(run))


@pytest.mark.parametrize(
    "name",
    [
        "cat-step00000003.safetensors",
        "cat-step00000012.safetensors",
        "cat-000003.safetensors",
        "cat-two.safetensors",
        "dog-000001.safetensors",
    ],
)
def test_files_that_the_run_does_not_make_are_not_in_its_way(name: str, tmp_path: Path) -> None:
    run = _run(tmp_path)
    (tmp_path / name).touch()
    _outputs(run).check_on_the_way(_occasions(run))


def test_the_last_file_is_looked_for_first_of_all(tmp_path: Path) -> None:
    run = _run(tmp_path)
    _outputs(run).check()
    Path(run.record.output).touch()
    with pytest.raises(OutputExists, match=r"cat\.safetensors"):
        _outputs(run).check()
    _outputs(run, overwrite=True).check()


def test_a_folder_that_takes_no_files_is_known_first_of_all(tmp_path: Path) -> None:
    run = _run(tmp_path)
    # Whoever is root may write everywhere but where nobody can.
    nowhere = tmp_path / "nowhere"
    nowhere.symlink_to(tmp_path / "gone")
    with pytest.raises(FileUnwritable):
        Outputs(str(nowhere / "cat.safetensors"), run, overwrite=True).check()


def test_a_look_leaves_nothing(tmp_path: Path) -> None:
    run = _run(tmp_path)
    before = sorted(os.listdir(tmp_path))
    _outputs(run).check()
    assert sorted(os.listdir(tmp_path)) == before


def test_of_the_files_on_the_way_the_last_stay(tmp_path: Path) -> None:
    outputs = _outputs(_run(tmp_path))
    saved = [_saved(tmp_path / f"{number}.safetensors") for number in range(4)]
    for each in saved:
        outputs.keep(each, 2)
    assert outputs.saved == saved[2:]
    assert sorted(each.name for each in tmp_path.glob("*.safetensors")) == [
        "2.safetensors",
        "3.safetensors",
    ]


def test_without_a_limit_all_stay_each_once(tmp_path: Path) -> None:
    outputs = _outputs(_run(tmp_path))
    saved = [_saved(tmp_path / f"{number}.safetensors") for number in (0, 1, 0)]
    for each in saved:
        outputs.keep(each, 0)
    assert outputs.saved == [saved[1], saved[2]]


def test_a_record_does_not_grow_with_files_that_are_gone(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(9)]
    run = _run(tmp_path, files=[str(each) for each in paths])
    outputs = _outputs(run)
    for path in paths:
        outputs.keep(_saved(path), 2)
    assert run.record.files == [str(each) for each in paths[-2:]]


def test_a_file_that_cannot_be_removed_stays_the_runs_own(tmp_path: Path) -> None:
    stays = tmp_path / "stays.safetensors"
    stays.mkdir()
    run = _run(tmp_path, files=[str(stays)])
    outputs = _outputs(run)
    outputs.keep(_saved(stays), 1)
    outputs.keep(_saved(tmp_path / "other.safetensors"), 1)
    assert run.record.files == [str(stays)]
