"""Writing: byte for byte what the format's library writes; and whatever goes wrong, nothing of it is left."""

import errno
import hashlib
import os
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies
from safetensors.torch import load_file, save, save_file

from contract.errors import (
    DiskFull,
    FileUnwritable,
    LorakeetError,
    OutputExists,
    OutputIsInput,
    WeightsChanged,
    WeightsUnsupported,
)
from trainer.weights.dtypes import TORCH_NAMES, bytes_of, code_of, torch_dtype
from trainer.weights.hashes import file_hashes
from trainer.weights.tensor_file import open_weights
from trainer.weights.tensor_writer import TensorSpec, TensorWriter, Written

Tensors = Mapping[str, torch.Tensor]


def _specs(tensors: Tensors) -> list[TensorSpec]:
    return [TensorSpec(name, code_of(each.dtype), tuple(each.shape)) for name, each in tensors.items()]


def _write(
    path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None, **options: Any
) -> Written:
    with TensorWriter(str(path), _specs(tensors), metadata or {}, **options) as writer:
        for spec in writer.order:
            writer.write(bytes_of(tensors[spec.name]))
        return writer.finish()


def _begun(path: Path, **options: Any) -> TensorWriter:
    """A writer of 2,000 bytes that has got 1,000 of them."""
    writer = TensorWriter(str(path), [TensorSpec("x", "U8", (2000,))], {}, **options)
    writer.write(bytes(1000))
    return writer


def _zoo() -> dict[str, torch.Tensor]:
    """All types and odd shapes, with a name that is no ASCII."""
    return {
        f"{code}.{index} ü": torch.zeros(shape, dtype=torch_dtype(code))
        for code in TORCH_NAMES
        for index, shape in enumerate([(), (3,), (0, 2), (2, 5)])
    }


def test_a_file_is_byte_for_byte_that_of_the_formats_own_library(tmp_path: Path) -> None:
    tensors = _zoo() | {"large": torch.randn(1000, 333)}
    written = _write(tmp_path / "x.safetensors", tensors, {"ss_tag": 'n"ä\n\x01'})
    whole = save(dict(tensors), {"ss_tag": 'n"ä\n\x01'})
    assert (tmp_path / "x.safetensors").read_bytes() == whole
    assert written == (str(tmp_path / "x.safetensors"), len(whole), hashlib.sha256(whole).hexdigest())
    assert os.listdir(tmp_path) == ["x.safetensors"]


_dtypes = strategies.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.int64])
_shapes = strategies.lists(strategies.integers(0, 40), max_size=2)


@given(
    strategies.dictionaries(
        strategies.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        strategies.tuples(_dtypes, _shapes),
        min_size=1,
        max_size=8,
    ),
    strategies.integers(1, 5000),
    strategies.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_data_in_pieces_of_any_size_makes_the_same_file(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: dict[str, tuple[torch.dtype, list[int]]],
    piece: int,
    keep_order: bool,
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    tensors = {
        name: torch.randint(0, 100, shape).to(dtype) for name, (dtype, shape) in sorted(shapes.items())
    }
    with TensorWriter(str(path), _specs(tensors), {"a": "b"}, keep_order=keep_order) as writer:
        data = b"".join(bytes(bytes_of(tensors[spec.name])) for spec in writer.order)
        for start in range(0, len(data), piece):
            buffer = bytearray(data[start : start + piece])
            writer.write(buffer)
            # The buffer is used again while the file is hashed.
            buffer[:] = b"\xff" * len(buffer)
        written = writer.finish()
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    if not keep_order:
        assert path.read_bytes() == save(tensors, {"a": "b"})
    loaded = load_file(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_small_tensors_go_to_the_disk_together_and_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    sizes = [3] * 400 + [100_000] + [5000] * 400 + [70_000, 1]
    tensors = {f"{number:04d}": torch.randn(size) for number, size in enumerate(sizes)}
    real, written = os.write, []

    def counted(descriptor: int, data: Any) -> int:
        written.append(len(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    _write(path, tensors, {"a": "b"})
    # The header; small ones; the large one; 8 MB of small ones by the megabyte; the last two.
    assert len(written) <= 14
    assert path.read_bytes() == save(tensors, {"a": "b"})


def test_data_comes_as_any_buffer(tmp_path: Path) -> None:
    with TensorWriter(str(tmp_path / "x.safetensors"), [TensorSpec("a", "F32", (4,))], {}) as writer:
        writer.write(torch.zeros(0, 3).numpy().data)
        writer.write(torch.tensor([[1.0, 2.0]]).numpy().data)
        writer.write(array("f", [3.0]))
        writer.write(bytes(0))
        writer.write(torch.tensor(4.0).numpy().data)
        writer.finish()
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1, 2, 3, 4]


def test_the_order_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    tensors = {"z": torch.ones(3, dtype=torch.uint8), "a": torch.randn(3), "m": torch.tensor(1.0)}
    _write(tmp_path / "x.safetensors", tensors, keep_order=True)
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        assert file.names == ["z", "a", "m"]
        assert all(torch.equal(file.tensor(name), tensor) for name, tensor in tensors.items())


def test_a_file_without_tensors_can_be_written(tmp_path: Path) -> None:
    _write(tmp_path / "x.safetensors", {}, {"only": "text"})
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        assert (file.names, file.header.metadata) == ([], {"only": "text"})


@pytest.mark.parametrize("keep_order", [False, True])
@pytest.mark.parametrize("count", [3, 300_000])
def test_adapters_get_the_hashes_by_which_they_are_looked_up(
    count: int, keep_order: bool, tmp_path: Path
) -> None:
    tensors = {"b": torch.randn(count), "a": torch.ones(5, dtype=torch.float16), "c": torch.randn(7)}
    metadata = {"ss_a": "b", "modelspec.title": "x", "sshs_model_hash": "stale"}
    written = _write(
        tmp_path / "x.safetensors", tensors, metadata, adapter_hashes=True, keep_order=keep_order
    )
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        hashes = file_hashes(file)
        assert written.sha256 == hashes.sha256
        assert file.header.metadata == metadata | {
            "sshs_model_hash": hashes.model,
            "sshs_legacy_hash": hashes.legacy,
        }
        assert all(torch.equal(file.tensor(name), tensor) for name, tensor in tensors.items())


# What is refused before anything is written -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        ([TensorSpec("a", "U8", (1,)), TensorSpec("a", "U8", (2,))], "two tensors named 'a'"),
        ([TensorSpec("a", "F99", (1,))], "unknown type"),
        ([TensorSpec("a", "F4", (3,))], "end within a byte"),
        ([TensorSpec("\udc80", "U8", (3,))], "Unicode"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(specs: list[TensorSpec], why: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnsupported, match=why) as refused:
        TensorWriter(str(tmp_path / "x.safetensors"), specs, {})
    assert refused.value.where == str(tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_there_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"before")
    with pytest.raises(OutputExists):
        _begun(path)
    assert path.read_bytes() == b"before"
    _write(path, {"a": torch.zeros(3)}, overwrite=True)
    assert path.read_bytes() == save({"a": torch.zeros(3)})
    assert os.listdir(tmp_path) == ["x.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="no permissions there")
def test_a_file_that_is_overwritten_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"before")
    path.chmod(0o640)
    _write(path, {"a": torch.zeros(3)}, overwrite=True)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_the_output_by_any_name(overwrite: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    os.link(path, tmp_path / "hard.safetensors")
    before = path.read_bytes()
    with open_weights(str(path)) as file:
        for name in ("x", "hard"):
            with pytest.raises(OutputIsInput):
                _begun(tmp_path / f"{name}.safetensors", inputs=[file], overwrite=overwrite)
    assert path.read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_cannot_be_written_to_is_refused(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    long = f"{'x' * 300}.safetensors"
    for name in ("none/x.safetensors", "file/x.safetensors", long, "a\0b.safetensors"):
        with pytest.raises(FileUnwritable) as refused:
            _begun(tmp_path / name, overwrite=overwrite)
        assert refused.value.where == str(tmp_path / name)
    with pytest.raises(FileUnwritable if overwrite else OutputExists):
        _begun(tmp_path / "folder.safetensors", overwrite=overwrite)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.safetensors"]


# What goes wrong meanwhile ----------------------------------------------------------------------------------


def test_a_writer_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    with _begun(tmp_path / "x.safetensors"):
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), _begun(tmp_path / "x.safetensors"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_data_that_does_not_fit_is_a_bug_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more data"), _begun(tmp_path / "x.safetensors") as writer:
        writer.write(bytes(1001))
    with pytest.raises(ValueError, match="1000 bytes of data are missing"):
        _begun(tmp_path / "x.safetensors").finish()
    assert os.listdir(tmp_path) == []


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with _begun(path) as writer:
        writer.write(bytes(1000))
        path.write_bytes(b"somebody else's")
        with pytest.raises(OutputExists):
            writer.finish()
    assert path.read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_a_disk_without_links_is_written_to_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "x.safetensors"
    _write(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == save({"a": torch.zeros(3)})
    with _begun(tmp_path / "y.safetensors") as writer:
        writer.write(bytes(1000))
        (tmp_path / "y.safetensors").touch()
        with pytest.raises(OutputExists):
            writer.finish()
    assert sorted(os.listdir(tmp_path)) == ["x.safetensors", "y.safetensors"]


def test_an_input_that_changes_meanwhile_makes_no_output(tmp_path: Path) -> None:
    source = tmp_path / "in.safetensors"
    save_file({"a": torch.zeros(3)}, source)
    with open_weights(str(source)) as file, _begun(tmp_path / "x.safetensors", inputs=[file]) as writer:
        writer.write(bytes(1000))
        os.utime(source, ns=(0, 0))
        with pytest.raises(WeightsChanged) as changed:
            writer.finish()
    assert changed.value.where == str(source)
    assert os.listdir(tmp_path) == ["in.safetensors"]


def test_a_file_takes_the_place_of_its_own_input_where_that_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with open_weights(str(path)) as file:
        _write(path, {"a": torch.ones(3)}, inputs=[file], replaces=file)
    assert path.read_bytes() == save({"a": torch.ones(3)})


def test_a_file_that_was_replaced_by_somebody_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with open_weights(str(path)) as file, _begun(path, inputs=[file], replaces=file) as writer:
        writer.write(bytes(1000))
        (tmp_path / "other").write_bytes(b"somebody else's")
        os.replace(tmp_path / "other", path)
        with pytest.raises(WeightsChanged, match="somebody else"):
            writer.finish()
    assert path.read_bytes() == b"somebody else's"


def _fail(monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int) -> None:
    """Let the call of this number (from 1) fail, and no other one."""
    real, seen = getattr(os, call), iter(range(1, 1000))

    def failing(*arguments: Any, **named: Any) -> Any:
        if next(seen) == number:
            raise OSError(code, "injected")
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, failing)


@pytest.mark.skipif(sys.platform != "linux", reason="not all of these calls are there")
@pytest.mark.parametrize(
    ("call", "number", "code", "error"),
    [
        ("posix_fallocate", 1, errno.ENOSPC, DiskFull),
        ("write", 1, errno.ENOSPC, DiskFull),
        ("write", 2, errno.ENOSPC, DiskFull),
        ("write", 2, errno.EDQUOT, DiskFull),
        ("write", 3, errno.EIO, FileUnwritable),
        ("fsync", 1, errno.ENOSPC, DiskFull),
        ("fsync", 1, errno.EIO, FileUnwritable),
        ("link", 1, errno.ENOSPC, DiskFull),
        ("open", 1, errno.EROFS, FileUnwritable),
    ],
)
def test_a_call_that_fails_is_told_and_leaves_nothing(
    call: str,
    number: int,
    code: int,
    error: type[LorakeetError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "x.safetensors"
    with monkeypatch.context() as patched:
        _fail(patched, call, number, code)
        with pytest.raises(error) as told:
            _write(path, {"a": torch.zeros(1 << 15), "b": torch.zeros(1 << 15)})
    assert told.value.where == str(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="not all of these calls are there")
@pytest.mark.parametrize(
    ("call", "number", "code"),
    [("posix_fallocate", 1, errno.EOPNOTSUPP), ("fsync", 2, errno.EINVAL)],
)
def test_what_a_file_system_cannot_is_done_without(
    call: str, number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting space aside, and bringing the name of a file to the disk."""
    with monkeypatch.context() as patched:
        _fail(patched, call, number, code)
        _write(tmp_path / "x.safetensors", {"a": torch.zeros(3)})
    assert (tmp_path / "x.safetensors").read_bytes() == save({"a": torch.zeros(3)})
