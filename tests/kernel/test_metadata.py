"""`metadata` through a real kernel: the header changes, and no byte of a tensor does."""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.kernel_process import KernelProcess
from trainer.weights.tensor_file import open_weights

Message = dict[str, Any]

_BEFORE = {"ss_output_name": "x", "ss_sd_model_name": "/home/anna/base.safetensors", "kept": "ä"}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess() as started:
        started.initialize(roots=[tmp_path_factory.getbasetemp()])
        yield started


def _params(file: Path, job_id: str, output: Path | None = None, **settings: Any) -> Message:
    params: Message = {"job_id": job_id, "v": 1, "inputs": {"file": str(file)}, "settings": settings}
    return params if output is None else params | {"outputs": {"file": str(output)}}


def _file(folder: Path) -> Path:
    """With tensors in another order than the library's, which puts the widest first, and of odd sizes."""
    sizes = {"b": ("U8", [3]), "a": ("F32", [1000, 700]), "c": ("F64", [0, 4]), "d": ("I64", [5])}
    header: dict[str, Any] = {"__metadata__": _BEFORE}
    data = b""
    for name, (dtype, shape) in sizes.items():
        size = math.prod(shape) * {"U8": 1, "F32": 4}.get(dtype, 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += os.urandom(size)
    raw = json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    with open_weights(str(path)) as file:
        assert file.names == list(sizes)
    return path


def _data(path: Path) -> tuple[bytes, list[tuple[str, tuple[int, int]]]]:
    with open_weights(str(path)) as file:
        places = [(name, file.header.tensors[name].data_offsets) for name in file.names]
        return path.read_bytes()[file.data_start :], places


def _metadata(path: Path) -> dict[str, str]:
    with open_weights(str(path)) as file:
        return file.header.metadata


def test_a_file_is_edited_in_its_place(kernel: KernelProcess, tmp_path: Path) -> None:
    path = _file(tmp_path)
    before = _data(path)
    changes: dict[str, Any] = {
        "set": {"new": "ü" * 5000, "kept": "changed"},
        "remove": ["ss_out*"],
        "strip_paths": True,
    }
    result = kernel.request("metadata", _params(path, "in-place", **changes))["result"]
    assert _data(path) == before
    assert _metadata(path) == {"ss_sd_model_name": "base.safetensors", "kept": "changed", "new": "ü" * 5000}
    assert (result["added"], result["removed"]) == (["new"], ["ss_output_name"])
    assert sorted(result["changed"]) == ["kept", "ss_sd_model_name"]
    content = path.read_bytes()
    assert (result["file"], result["bytes"]) == (str(path), len(content))
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert os.listdir(tmp_path) == ["x.safetensors"]
    (artifact,) = [each["params"] for each in kernel.notifications if each["method"] == "artifact"]
    assert (artifact["path"], artifact["sha256"]) == (str(path), result["sha256"])


def test_another_file_is_made_and_the_input_stays(kernel: KernelProcess, tmp_path: Path) -> None:
    path, output = _file(tmp_path), tmp_path / "y.safetensors"
    before = path.read_bytes()
    kernel.request("metadata", _params(path, "other", output, remove=["*"]))
    assert path.read_bytes() == before
    assert _metadata(output) == {}
    assert _data(output) == _data(path)
    again = kernel.request("metadata", _params(path, "again", output, remove=["*"]))
    assert again["error"]["data"]["kind"] == "output_exists"


def test_an_edit_that_changes_nothing_leaves_the_file_alone(kernel: KernelProcess, tmp_path: Path) -> None:
    path = _file(tmp_path)
    before = path.stat()
    result = kernel.request("metadata", _params(path, "nothing", remove=["none"]))["result"]
    assert (result["added"], result["changed"], result["removed"]) == ([], [], [])
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_is_followed_to_the_file_that_is_edited(kernel: KernelProcess, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path, link = _file(tmp_path / "real"), tmp_path / "link.safetensors"
    link.symlink_to(path)
    result = kernel.request("metadata", _params(link, "link", set={"new": "1"}))["result"]
    assert result["file"] == str(path)
    assert link.is_symlink() and _metadata(path)["new"] == "1"


def test_the_input_is_refused_as_the_output(kernel: KernelProcess, tmp_path: Path) -> None:
    path = _file(tmp_path)
    before = path.read_bytes()
    params = _params(path, "same", path, set={"new": "1"})
    params["outputs"]["overwrite"] = True
    error = kernel.request("metadata", params)["error"]["data"]
    assert (error["kind"], error["where"]) == ("output_is_input", str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("cut.safetensors", save({"a": torch.zeros(9)})[:-1], "weights_damaged"),
        ("x.ckpt", b"PK\3\4", "weights_format"),
        ("none.safetensors", None, "file_missing"),
    ],
)
def test_what_is_no_whole_file_is_refused_by_name(
    name: str, content: bytes | None, kind: str, kernel: KernelProcess, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    error = kernel.request("metadata", _params(path, name.partition(".")[0], set={"a": "b"}))["error"]["data"]
    assert (error["kind"], error["where"]) == (kind, str(path))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_canceled_edit_leaves_nothing_and_changes_nothing(
    in_place: bool, kernel: KernelProcess, tmp_path: Path
) -> None:
    size = 1 << 30
    path = tmp_path / "large.safetensors"
    raw = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        # Takes no space: nothing is in it.
        file.truncate(file.tell() + size)
    before = path.stat()
    job_id = f"cancel-{in_place}"
    params = _params(path, job_id, None if in_place else tmp_path / "y.safetensors", set={"a": "b"})
    called = kernel.call("metadata", params)
    while kernel.receive().get("params", {}).get("job_id") != job_id:
        pass
    kernel.request("cancel", {"job_id": job_id})
    error = kernel.answer(called)["error"]
    assert error["data"]["kind"] == "canceled"
    assert os.listdir(tmp_path) == ["large.safetensors"]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
