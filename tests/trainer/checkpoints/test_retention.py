"""Which checkpoints stay."""

import math
from pathlib import Path

import pytest

from tests.trainer.checkpoints.test_folder import save
from trainer.checkpoints.folder import CheckpointFolder
from trainer.checkpoints.manifest import Manifest, Position
from trainer.checkpoints.retention import Retention, kept, prune


def manifests(*facts: tuple[int, float | None]) -> dict[str, Manifest]:
    return {str(step): Manifest(Position(step, 0, 0), "", {}, score) for step, score in facts}


SOME = manifests((10, 0.5), (20, 0.2), (30, math.nan), (40, 0.2), (50, None), (60, 0.9))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Retention(), {"50", "60"}),
        (Retention(keep_last=3), {"40", "50", "60"}),
        (Retention(keep_last=1), {"60"}),
        (Retention(keep_last=0), {"60"}),
        (Retention(keep_last=99), set(SOME)),
        (Retention(keep_last=1, keep_every_steps=20), {"20", "40", "60"}),
        (Retention(keep_last=1, keep_best=1), {"40", "60"}),
        (Retention(keep_last=1, keep_best=2), {"20", "40", "60"}),
        (Retention(keep_last=2, keep_every_steps=30, keep_best=3), {"10", "20", "30", "40", "50", "60"}),
    ],
)
def test_a_policy_keeps_the_last_the_best_and_every_so_many(policy: Retention, expected: set[str]) -> None:
    assert kept(SOME, policy) == expected


def test_nothing_of_nothing_is_kept() -> None:
    assert kept({}, Retention()) == set()


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    made = CheckpointFolder(str(tmp_path))
    for step in (1, 2, 3, 4):
        save(made, step)
    return made


def _damage(folder: CheckpointFolder, name: str, file: str = "rng.json") -> None:
    Path(folder.path, name, file).write_bytes(b"[]")


def test_what_is_not_kept_goes(folder: CheckpointFolder) -> None:
    names = folder.names()
    assert prune(folder, Retention(keep_last=2)) == names[:2]
    assert folder.names() == names[2:]
    assert sorted(each.name for each in Path(folder.path).iterdir()) == names[2:]
    assert prune(folder, Retention(keep_last=2)) == []


def test_the_only_whole_one_stays_whatever_the_policy_says(folder: CheckpointFolder) -> None:
    names = folder.names()
    for name in (names[0], *names[2:]):
        _damage(folder, name)
    assert prune(folder, Retention(keep_last=1)) == [names[0], names[2]]
    assert folder.names() == [names[1], names[3]]
    assert folder.is_whole(names[1])


def test_where_none_is_whole_none_is_called_so(folder: CheckpointFolder) -> None:
    for name in folder.names():
        _damage(folder, name)
    assert len(prune(folder, Retention(keep_last=1))) == 3


def test_what_cannot_even_be_described_is_left_alone(folder: CheckpointFolder) -> None:
    names = folder.names()
    _damage(folder, names[0], "manifest.json")
    assert prune(folder, Retention(keep_last=1)) == names[1:3]
    assert folder.names() == [names[0], names[3]]
