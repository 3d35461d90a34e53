"""`inspect` through a real kernel, beside whatever else it does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from contract.methods.inspect import InspectResult
from tests.kernel.engines.inspection.looks import published_lora, write
from tests.kernel_process import KernelProcess


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess() as started:
        started.initialize(roots=[tmp_path_factory.getbasetemp()])
        yield started


def _looked(kernel: KernelProcess, file: Path, **wanted: Any) -> InspectResult:
    answer = kernel.request("inspect", {"file": str(file), **wanted})
    return msgspec.convert(answer["result"], InspectResult)


def _error(kernel: KernelProcess, file: Path | str) -> dict[str, Any]:
    error: dict[str, Any] = kernel.request("inspect", {"file": str(file)})["error"]
    return error


def test_a_file_is_told_whole(kernel: KernelProcess, tmp_path: Path) -> None:
    path = write(tmp_path, published_lora("sd15"), {"ss_output_name": "mine", "modelspec.title": "Mine"})
    result = _looked(kernel, path)
    assert (result.file, result.kind, result.family) == (str(path), "lora", "sd15")
    assert result.adapter is not None and result.adapter.modules == 264
    assert all(block.norm for block in result.adapter.blocks)
    assert result.hashes is not None
    assert [each.matched for each in result.consumers] == [792] * 4
    assert (result.trigger_words, result.modelspec) == (["mine"], {"title": "Mine"})


def test_what_is_not_asked_for_is_not_computed(kernel: KernelProcess, tmp_path: Path) -> None:
    path = write(tmp_path, published_lora("sd15"))
    result = _looked(kernel, path, hashes=False, norms=False)
    assert result.hashes is None
    assert result.adapter is not None
    assert [block.norm for block in result.adapter.blocks] == [None] * len(result.adapter.blocks)


def test_numbers_that_are_no_numbers_travel_as_none(kernel: KernelProcess, tmp_path: Path) -> None:
    tensors = published_lora("sd15")
    tensors = {
        name: tensor * float("inf") if ".lora_up." in name else tensor for name, tensor in tensors.items()
    }
    result = _looked(kernel, write(tmp_path, tensors), hashes=False)
    assert result.adapter is not None
    assert {block.norm for block in result.adapter.blocks} == {None}
    assert any("264 modules have NaN or infinite numbers" in each for each in result.warnings)


def test_files_that_cannot_be_looked_at_are_refused_by_name(kernel: KernelProcess, tmp_path: Path) -> None:
    whole = write(tmp_path, {"a": torch.zeros(100)})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1])
    pickle = tmp_path / "old.ckpt"
    torch.save({"a": torch.zeros(1)}, pickle)
    for file, kind in (
        (tmp_path / "none.safetensors", "file_missing"),
        (tmp_path, "file_unreadable"),
        (cut, "weights_damaged"),
        (pickle, "weights_format"),
        ("/etc/hostname", "path_outside_roots"),
        ("x.safetensors", "path_not_absolute"),
    ):
        error = _error(kernel, file)
        assert error["data"]["kind"] == kind
        assert str(file) in error["message"]
