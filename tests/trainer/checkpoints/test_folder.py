"""Folders of checkpoints: what is saved is loaded, and what was damaged is found and named."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from contract.errors import (
    DiskFull,
    FileMissing,
    FileUnwritable,
    OutputExists,
    WeightsDamaged,
    WeightsUnsupported,
)
from trainer.checkpoints import manifest as manifests
from trainer.checkpoints.folder import CheckpointFolder
from trainer.checkpoints.manifest import Position, settings_digest
from trainer.checkpoints.unfinished_folder import UnfinishedFolder
from trainer.weights.tensor_writer import TensorSpec, TensorWriter, Written

PARTS = {
    "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(5.0)}}, "lr": 1e-4},
    "rng": {"python": (3, tuple(range(5)), None)},
}
SETTINGS = settings_digest({"lr": 1e-4})


def save(folder: CheckpointFolder, step: int, score: float | None = None) -> str:
    return folder.save(PARTS, Position(step, 1, 2, 1), SETTINGS, score=score).name


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(str(tmp_path / "run" / "checkpoints"))


def adapter(path: str) -> Written:
    with TensorWriter(path, [TensorSpec("a", "F32", (2,))], {"ss_steps": "3"}) as writer:
        writer.write(bytes(8))
        return writer.finish()


def refuse(path: str) -> Written:
    raise DiskFull("full", where=path)


def test_what_is_saved_is_there_again(folder: CheckpointFolder) -> None:
    assert folder.names() == []
    assert folder.newest() == (None, ())
    saved = folder.save(
        PARTS, Position(120, 1, 2, 1), SETTINGS, files={"my-lora.safetensors": adapter}, score=0.5
    )
    assert saved.name == "00001-step-00000120"
    newest = folder.newest()
    assert newest.checkpoint == saved == folder.open(saved.name)
    assert newest.damaged == ()
    assert saved.manifest.position == Position(120, 1, 2, 1)
    assert (saved.manifest.settings, saved.manifest.score) == (SETTINGS, 0.5)
    optimizer = saved.state("optimizer")
    assert torch.equal(optimizer["state"][0]["exp_avg"], torch.arange(5.0))
    assert optimizer["state"][0]["step"].shape == ()
    assert saved.state("rng") == PARTS["rng"]
    assert (
        os.path.getsize(saved.file("my-lora.safetensors"))
        == saved.manifest.files["my-lora.safetensors"].bytes
    )
    assert sorted(os.listdir(saved.path)) == sorted([*saved.manifest.files, manifests.NAME])
    assert os.listdir(folder.path) == [saved.name]


def test_the_same_state_gives_the_same_bytes(folder: CheckpointFolder, tmp_path: Path) -> None:
    other = CheckpointFolder(str(tmp_path / "other"))
    one, two = (each.open(save(each, 3)) for each in (folder, other))
    for file in os.listdir(one.path):
        assert Path(one.path, file).read_bytes() == Path(two.path, file).read_bytes()


def test_names_are_in_the_order_of_age_and_used_once(folder: CheckpointFolder) -> None:
    names = [save(folder, step) for step in (10, 20, 10)]
    assert names == ["00001-step-00000010", "00002-step-00000020", "00003-step-00000010"]
    assert folder.names() == names
    newest = folder.newest().checkpoint
    assert newest is not None
    assert newest.name == names[2]
    folder.remove(names[0])
    assert save(folder, 20) == "00004-step-00000020"
    Path(folder.path, "notes.txt").touch()
    Path(folder.path, "99999-step-x").mkdir()
    assert folder.names() == [*names[1:], "00004-step-00000020"]


@pytest.mark.parametrize(
    "name", ["", "..", "00009-step-00000001", "../checkpoints/00001-step-00000001", "a\0"]
)
def test_a_checkpoint_that_is_not_there_is_missing(folder: CheckpointFolder, name: str) -> None:
    there = save(folder, 1)
    with pytest.raises(FileMissing) as missing:
        folder.open(name)
    assert missing.value.details == {"checkpoints": [there]}
    with pytest.raises(FileMissing):
        folder.remove(name)
    with pytest.raises(FileMissing):
        folder.open(there).state("scaler")
    with pytest.raises(FileMissing):
        folder.open(there).file("no.safetensors")


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flip,
    "a shorter file": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a longer file": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "an empty file": lambda path: path.write_bytes(b""),
    "a missing file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("file", ["manifest.json", "optimizer.json", "optimizer.safetensors", "rng.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_the_newest_whole_one_is_taken(
    folder: CheckpointFolder, file: str, damage: str
) -> None:
    whole, middle, last = (save(folder, step) for step in (1, 2, 3))
    for name in (middle, last):
        DAMAGES[damage](Path(folder.path, name, file))
    with pytest.raises(WeightsDamaged) as damaged:
        folder.open(last)
    assert damaged.value.where == str(Path(folder.path, last, file))
    assert last in damaged.value.message
    newest = folder.newest()
    assert newest.checkpoint == folder.open(whole)
    assert [each.details["checkpoint"] for each in newest.damaged] == [last, middle]
    assert [each.where for each in newest.damaged] == [
        str(Path(folder.path, name, file)) for name in (last, middle)
    ]


def test_every_bit_of_a_manifest_counts(folder: CheckpointFolder) -> None:
    raw = Path(folder.path, save(folder, 3), manifests.NAME).read_bytes()
    assert manifests.decode_manifest(raw).position.step == 3
    unnoticed = []
    for index in range(len(raw)):
        changed = bytearray(raw)
        changed[index] ^= 1
        try:
            if manifests.decode_manifest(bytes(changed)) != manifests.decode_manifest(raw):
                unnoticed.append(index)
        except manifests.ManifestUnreadable:
            continue
    assert unnoticed == []


def test_a_manifest_names_nothing_outside_and_nothing_of_the_future() -> None:
    facts = manifests.FileFacts(0, "")
    for manifest, why in [
        (manifests.Manifest(Position(1, 0, 0), "", {"../secret": facts}), "outside"),
        (manifests.Manifest(Position(1, 0, 0), "", {}, format=2), "newer"),
    ]:
        with pytest.raises(manifests.ManifestUnreadable, match=why):
            manifests.decode_manifest(manifests.encode_manifest(manifest))


def test_what_cannot_be_kept_is_told_and_nothing_is_left(folder: CheckpointFolder) -> None:
    save(folder, 1)
    with pytest.raises(WeightsUnsupported) as refused:
        folder.save({"optimizer": {"a": {1, 2}}}, Position(2, 0, 0), SETTINGS)
    assert refused.value.details == {"part": "optimizer", "key": "a"}
    with pytest.raises(DiskFull) as full:
        folder.save(PARTS, Position(2, 0, 0), SETTINGS, files={"lora.safetensors": refuse})
    assert full.value.where == str(Path(folder.path, "00002-step-00000002", "lora.safetensors"))
    assert os.listdir(folder.path) == ["00001-step-00000001"]


def test_a_file_that_no_manifest_may_name_is_a_bug_and_leaves_nothing(folder: CheckpointFolder) -> None:
    with pytest.raises(ValueError, match="names of files"):
        folder.save({}, Position(2, 0, 0), SETTINGS, files={"../lora.safetensors": adapter})
    assert folder.names() == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileUnwritable):
        save(CheckpointFolder(str(tmp_path / "file" / "checkpoints")), 1)


def test_what_a_dead_process_left_goes_and_what_lives_stays(
    folder: CheckpointFolder,
) -> None:
    save(folder, 1)
    living = UnfinishedFolder(folder.path)
    dead = Path(folder.path, ".checkpoint-0123456789abcdef.part")
    shutil.copytree(Path(folder.path, folder.names()[0]), dead)
    save(folder, 2)
    assert not dead.exists()
    assert Path(living.path).is_dir()
    path = living.path
    living.discard()
    assert not Path(path).exists()


def test_what_a_dead_process_left_goes_also_where_nothing_new_is_saved(folder: CheckpointFolder) -> None:
    folder.clear()
    assert not os.path.exists(folder.path)
    save(folder, 1)
    dead = Path(folder.path, ".checkpoint-0123456789abcdef.part")
    shutil.copytree(Path(folder.path, folder.names()[0]), dead)
    folder.clear()
    assert os.listdir(folder.path) == folder.names()


def test_a_place_that_was_taken_is_not_overwritten(folder: CheckpointFolder) -> None:
    name = save(folder, 1)
    other = UnfinishedFolder(folder.path)
    with pytest.raises(OutputExists):
        other.publish(name)
    other.discard()
    assert os.listdir(folder.path) == [name]
    assert folder.is_whole(name)
