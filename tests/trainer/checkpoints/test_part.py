"""Parts of checkpoints as files: what is there comes back, and what nobody wrote is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import FileUnreadable, WeightsDamaged
from tests.trainer.checkpoints.test_state import PLAIN, same
from trainer.checkpoints.part import read_part, write_part
from trainer.weights.dtypes import TORCH_NAMES


def test_a_state_comes_back_from_its_files(tmp_path: Path) -> None:
    numbers = torch.arange(-8, 8)
    tensors = {name: numbers.to(getattr(torch, name)) for name in ("float32", "bfloat16", "int8", "bool")}
    state = {"plain": PLAIN, "tensors": tensors, "scalar": torch.tensor(1.5), "none": torch.zeros(0, 3)}
    kept = write_part(str(tmp_path), "optimizer", state)
    assert same(read_part(str(tmp_path), "optimizer"), state)
    assert sorted(each.name for each in kept) == sorted(os.listdir(tmp_path))
    assert all(os.path.getsize(tmp_path / each.name) == each.bytes for each in kept)


def test_every_type_of_numbers_is_written(tmp_path: Path) -> None:
    raw = torch.arange(2, dtype=torch.uint8).repeat(24)
    state = [raw.view(getattr(torch, name)) for name in sorted({*TORCH_NAMES.values(), "complex128"})]
    # Odd sizes: what follows lies anywhere in the file.
    state.insert(0, torch.ones(3, dtype=torch.uint8))
    write_part(str(tmp_path), "a", state)
    assert same(read_part(str(tmp_path), "a"), state)


def test_a_state_without_tensors_is_one_file(tmp_path: Path) -> None:
    write_part(str(tmp_path), "schedule", {"last_epoch": 3})
    assert os.listdir(tmp_path) == ["schedule.json"]
    assert read_part(str(tmp_path), "schedule") == {"last_epoch": 3}


def test_what_was_read_stays_when_its_file_goes(tmp_path: Path) -> None:
    write_part(str(tmp_path), "a", torch.ones(3))
    state = read_part(str(tmp_path), "a")
    for each in tmp_path.iterdir():
        each.unlink()
    assert state.add_(1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"eval": "1"}',
        b'{"tensor": "b"}',
        b'{"tensor": 3}',
        b'{"tensor_as": ["a", "no", []]}',
        b'{"tensor_as": ["a", "float64", [3]]}',
        b'{"dict": [[[], 1]]}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_nobody_wrote_is_refused(content: bytes, tmp_path: Path) -> None:
    write_part(str(tmp_path), "a", torch.ones(3))
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(WeightsDamaged) as refused:
        read_part(str(tmp_path), "a")
    assert refused.value.where == str(tmp_path / "a.json")


def test_tensors_that_are_gone_are_missed(tmp_path: Path) -> None:
    write_part(str(tmp_path), "a", {"x": torch.ones(3)})
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(WeightsDamaged):
        read_part(str(tmp_path), "a")
    (tmp_path / "a.json").unlink()
    with pytest.raises(FileUnreadable):
        read_part(str(tmp_path), "a")


def test_json_says_all_that_json_can_say(tmp_path: Path) -> None:
    """People may look at it."""
    state: Any = {"lr": [1e-4, 5], "name": "AdamW", "on": True, "none": None}
    write_part(str(tmp_path), "a", state)
    text = json.loads((tmp_path / "a.json").read_text("ascii"))
    assert text == {"dict": [["lr", [1e-4, 5]], ["name", "AdamW"], ["on", True], ["none", None]]}
