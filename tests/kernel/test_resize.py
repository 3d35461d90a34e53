"""`resize` through a real kernel: the wire, progress, the artifact, refusals."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.builders import adapters
from tests.kernel_process import KernelProcess

Message = dict[str, Any]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess() as started:
        started.initialize(roots=[tmp_path_factory.getbasetemp()])
        yield started


def _params(folder: Path, job_id: str, **settings: Any) -> Message:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, alpha=4, spectrum="decaying")
    tensors |= adapters.full("lora_unet_b", (8, 6))
    path = adapters.write(folder / "in.safetensors", tensors, {"ss_network_dim": "8"})
    return {
        "job_id": job_id,
        "v": 1,
        "inputs": {"file": str(path)},
        "outputs": {"file": str(folder / "out.safetensors")},
        "settings": settings,
    }


def test_a_lora_is_resized(kernel: KernelProcess, tmp_path: Path) -> None:
    params = _params(tmp_path, "resize", method="sv_fro", value=0.8, rank=6)
    result = kernel.request("resize", params)["result"]
    output = tmp_path / "out.safetensors"
    assert result["file"] == str(output) and result["bytes"] == output.stat().st_size
    assert result["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert result["value"] == 0.8 and result["unchanged"] == ["lora_unet_b"]
    module = result["modules"][0]
    assert module["name"] == "lora_unet_a" and 1 < module["new_rank"] < 8 == module["old_rank"]
    assert module["fro_retained"] > 0.8
    assert {"read_s", "core_s", "write_s", "wall_s"} == result["timings"].keys()
    assert [each["path"] for each in result["artifacts"]] == [str(output)]
    tensors = load_file(output)
    assert tensors["lora_unet_a.lora_down.weight"].shape == (module["new_rank"], 40)
    assert torch.equal(tensors["lora_unet_b.diff"], load_file(params["inputs"]["file"])["lora_unet_b.diff"])


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"method": "sv_ratio", "value": 0.5}, "$.params.settings.value"),
        ({"method": "sv_fro"}, "$.params.settings.value"),
        ({"method": "fixed", "value": 2}, "$.params.settings.value"),
        ({"target_size_mb": 1e-6}, "$.params.settings.target_size_mb"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_their_place(
    kernel: KernelProcess, tmp_path: Path, settings: Message, where: str
) -> None:
    error = kernel.request("resize", _params(tmp_path, f"no-{where[-5:]}-{len(str(settings))}", **settings))[
        "error"
    ]
    assert error["data"]["kind"] == "invalid_params"
    assert where in str(error)
    assert not (tmp_path / "out.safetensors").exists()


def test_bad_files_are_refused_by_their_keys(kernel: KernelProcess, tmp_path: Path) -> None:
    params = _params(tmp_path, "half", rank=2)
    tensors = load_file(params["inputs"]["file"])
    del tensors["lora_unet_a.lora_up.weight"]
    adapters.write(tmp_path / "in.safetensors", tensors)
    data = kernel.request("resize", params)["error"]["data"]
    assert data["kind"] == "weights_incomplete"
    assert data["where"] == params["inputs"]["file"]
    assert data["details"] == {"key": "lora_unet_a.lora_down.weight"}
