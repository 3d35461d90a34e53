"""Reading: every type from every place in a file, without a copy; and what no reader can do anything with."""

import gc
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from contract.errors import (
    FileMissing,
    FileUnreadable,
    WeightsChanged,
    WeightsDamaged,
    WeightsFormat,
    WeightsUnsupported,
)
from trainer.weights.dtypes import TORCH_NAMES, bytes_of, code_of, torch_dtype
from trainer.weights.tensor_file import open_weights

_SHAPES = [(), (1,), (3,), (2, 3), (0, 4), (2, 1, 3, 3)]


def _random(code: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bytes at all, as numbers of a type; bool has 0 and 1 only."""
    count = torch.empty(shape, dtype=torch_dtype(code)).nbytes
    raw = torch.randint(0, 2 if code == "BOOL" else 256, (count,), dtype=torch.uint8)
    return raw.view(torch_dtype(code)).reshape(shape)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (one.dtype, one.shape) == (other.dtype, other.shape) and bytes_of(one) == bytes_of(other)


def _shifted(path: Path, tensors: Mapping[str, torch.Tensor], shift: int) -> None:
    """A file as the format allows it and its library does not write it: the header's length is no multiple
    of 8, and `shift` single bytes lie before each tensor."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in tensors.items():
        header[f"{name} shift"] = {
            "dtype": "U8",
            "shape": [shift],
            "data_offsets": [len(data), len(data) + shift],
        }
        data += b"\7" * shift
        start, data = len(data), data + bytes(bytes_of(tensor))
        header[name] = {
            "dtype": code_of(tensor.dtype),
            "shape": [*tensor.shape],
            "data_offsets": [start, len(data)],
        }
    raw = json.dumps(header).encode()
    raw += b" " * (3 - len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


@pytest.mark.parametrize("code", TORCH_NAMES)
def test_every_type_and_shape_is_read_as_it_was_written(code: str, tmp_path: Path) -> None:
    tensors = {f"t{index}": _random(code, shape) for index, shape in enumerate(_SHAPES)}
    save_file(tensors, tmp_path / "x.safetensors", {"a": "b"})
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        assert file.header.metadata == {"a": "b"}
        for name, tensor in tensors.items():
            assert _same(file.tensor(name), tensor), name
            assert bytes(file.raw(name)) == bytes(bytes_of(tensor)), name


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("code", TORCH_NAMES)
def test_every_type_is_read_from_places_that_are_not_aligned(code: str, shift: int, tmp_path: Path) -> None:
    tensors = {f"t{index}": _random(code, shape) for index, shape in enumerate(_SHAPES)}
    _shifted(tmp_path / "x.safetensors", tensors, shift)
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        for name, tensor in tensors.items():
            assert _same(file.tensor(name), tensor), name
            assert bytes(file.raw(name)) == bytes(bytes_of(tensor)), name


def test_aligned_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    save_file({"a": torch.randn(64, 64), "b": torch.randn(7)}, tmp_path / "x.safetensors")
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        one, other = file.tensor("a"), file.tensor("a")
        assert one.data_ptr() == other.data_ptr()
        first = file.data_start + file.header.tensors["a"].data_offsets[0]
        second = file.data_start + file.header.tensors["b"].data_offsets[0]
        assert file.tensor("b").data_ptr() - one.data_ptr() == second - first


def test_names_come_in_the_order_of_their_data(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1), "b": torch.zeros(1, dtype=torch.int64)}, tmp_path / "x.safetensors")
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        assert file.names == ["b", "a"]
        assert file.data_bytes == 12 and file.data_start + 12 == file.size


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    wanted = torch.randn(100)
    save_file({"a": wanted}, tmp_path / "x.safetensors")
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        tensor, raw = file.tensor("a"), file.raw("a")
    del file
    gc.collect()
    assert torch.equal(tensor, wanted) and bytes(raw) == bytes(bytes_of(wanted))


def test_bytes_are_read_through_a_buffer(tmp_path: Path) -> None:
    whole = save({"a": torch.randn(1000)})
    (tmp_path / "x.safetensors").write_bytes(whole)
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        file.expect("a")
        buffer = bytearray(100)
        file.read(1000, memoryview(buffer))
        assert buffer == whole[file.data_start + 1000 : file.data_start + 1100]
        assert file.head() == whole[: file.data_start]


def test_what_torch_cannot_compute_with_is_refused_by_name(tmp_path: Path) -> None:
    raw = (
        b'{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},'
        b'"y":{"dtype":"F16","shape":[4294967296,4294967296,0],"data_offsets":[1,1]}}'
    )
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + b"\1")
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        assert bytes(file.raw("x")) == b"\1"
        with pytest.raises(WeightsUnsupported, match="`x` in .* is F4") as refused:
            file.tensor("x")
        with pytest.raises(WeightsUnsupported, match="`y` in .* is of shape"):
            file.tensor("y")
    assert refused.value.details == {"key": "x"}


# Files that are none ----------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file" / "none"):
        with pytest.raises(FileMissing) as missing:
            open_weights(str(path))
        assert missing.value.where == str(path)


def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="is not a file"):
        open_weights(str(tmp_path))
    with pytest.raises(FileUnreadable):
        open_weights("/a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileUnreadable, match="is not a file"):
            open_weights(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("name", "content", "what", "hint"),
    [
        ("a.ckpt", b"PK\3\4 whatever follows", "a pickle of PyTorch", "save_file"),
        ("a.pt", b"\x80\x02}q\0", "a pickle of PyTorch", "save_file"),
        ("a.safetensors", b"PK\3\4 renamed by somebody", "a pickle of PyTorch", "save_file"),
        ("a.bin", b"", "a pickle of PyTorch", "save_file"),
        ("a.pth", b"anything else at all", "a pickle of PyTorch", "save_file"),
        ("a.gguf", b"GGUF\3\0\0\0 and so on", "a GGUF file", "inference only"),
        (
            "b.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer",
            "git lfs pull",
        ),
        ("c.safetensors", b"<!DOCTYPE html><title>Log in</title>", "a web page", "Download"),
    ],
)
def test_other_formats_are_refused_with_the_way_out(
    name: str, content: bytes, what: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsFormat, match=what) as refused:
        open_weights(str(tmp_path / name))
    assert hint in (refused.value.hint or "")
    assert refused.value.where == str(tmp_path / name)


def test_the_way_to_convert_a_pickle_works(tmp_path: Path) -> None:
    """The command of the hint, as it stands there."""
    import shlex
    import subprocess
    import sys

    tensors = {"a": torch.randn(3), "b": torch.zeros(2, 2)}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "IN.ckpt")
    with pytest.raises(WeightsFormat) as refused:
        open_weights(str(tmp_path / "IN.ckpt"))
    command = shlex.split((refused.value.hint or "").partition("installed: ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=50)
    with open_weights(str(tmp_path / "OUT.safetensors")) as file:
        assert all(torch.equal(file.tensor(name), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("left", [0, 7, 8, 40, -1])
def test_a_file_that_was_cut_off_is_damaged(left: int, tmp_path: Path) -> None:
    whole = save({"a": torch.randn(100)})
    (tmp_path / "x.safetensors").write_bytes(whole[:left])
    with pytest.raises(WeightsDamaged) as damaged:
        open_weights(str(tmp_path / "x.safetensors"))
    assert damaged.value.where == str(tmp_path / "x.safetensors")


_TWO = {
    "a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
    "b": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]},
}


@pytest.mark.parametrize(
    ("change", "data", "why"),
    [
        ({"data_offsets": [2, 6]}, 6, "overlap where 'b' begins"),
        ({"data_offsets": [6, 10]}, 10, "gaps where 'b' begins"),
        ({}, 5, "3 bytes are missing at its end, from 'b' on"),
        ({"shape": [3]}, 8, "size of 'b' does not fit"),
        ({"shape": [2**40, 2**40]}, 8, "impossible shape: 'b'"),
        ({"dtype": "F99"}, 8, "unknown type, 'F99': 'b'"),
        ({"shape": None}, 8, "damaged where it describes 'b'"),
    ],
)
def test_the_tensor_that_is_damaged_is_named(
    change: dict[str, object], data: int, why: str, tmp_path: Path
) -> None:
    raw = json.dumps(_TWO | {"b": {**_TWO["b"], **change}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data))
    with pytest.raises(WeightsDamaged, match=why) as damaged:
        open_weights(str(tmp_path / "x.safetensors"))
    assert damaged.value.where == str(tmp_path / "x.safetensors")
    assert damaged.value.details == {"key": "b"}


# Files that change ------------------------------------------------------------------------------------------


def _file(folder: Path) -> Path:
    path = folder / "x.safetensors"
    save_file({"a": torch.randn(100_000)}, path)
    return path


def test_a_file_that_became_shorter_is_noticed_before_it_is_touched(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with open_weights(str(path)) as file:
        os.truncate(path, 5000)
        for look in (file.raw, file.tensor, file.expect):
            with pytest.raises(WeightsChanged) as changed:
                look("a")
            assert changed.value.where == str(path)
        with pytest.raises(WeightsChanged):
            file.read(5000, memoryview(bytearray(8)))
        with pytest.raises(WeightsChanged):
            file.check_unchanged()


def test_a_file_that_was_written_to_is_noticed_at_the_end(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with open_weights(str(path)) as file:
        file.check_unchanged()
        assert file.is_current()
        with path.open("r+b") as other:
            other.seek(5000)
            other.write(b"other")
        os.utime(path, ns=(0, 0))
        with pytest.raises(WeightsChanged):
            file.check_unchanged()
        assert not file.is_current()


def test_a_file_that_was_replaced_is_still_read_whole(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with open_weights(str(path)) as file:
        before = bytes(file.raw("a"))
        save_file({"a": torch.zeros(5)}, tmp_path / "other")
        os.replace(tmp_path / "other", path)
        file.check_unchanged()
        assert not file.is_current()
        assert bytes(file.raw("a")) == before
    path.unlink()
    assert not file.is_current()
