"""Files of networks: diffusers makes of them what the model computed in training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import OutputExists, WeightsUnsupported
from contract.methods.training.network import LoraNetwork
from tests.trainer.networks.parts import (
    SETTINGS,
    components,
    computed,
    distance,
    moved,
    pipeline,
    trained,
)
from trainer.fixtures import Fixture
from trainer.networks import inject, write_adapter
from trainer.networks.writing import AdapterDtype, AdapterNaming
from trainer.weights.hashes import file_hashes
from trainer.weights.tensor_file import open_weights


# The proofs have the other naming, after a training.
@pytest.mark.parametrize("naming", ["kohya", pytest.param("peft", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["lora", "locon"])
@torch.no_grad()
def test_a_fresh_pipeline_with_the_file_computes_what_the_model_computed_in_training(
    model: Fixture, kind: str, naming: AdapterNaming, tmp_path: Path
) -> None:
    loaded = pipeline(model)
    before = computed(loaded)
    with trained(loaded, model.family, SETTINGS[kind]) as network:
        wanted = computed(loaded)
        write_adapter(network, str(tmp_path / "made.safetensors"), {}, dtype="fp32", naming=naming)
    assert moved(wanted, before)
    fresh = pipeline(model)
    fresh.load_lora_weights(tmp_path, weight_name="made.safetensors")
    found = computed(fresh)
    assert moved(found, before)
    assert distance(found, wanted) < 1e-4


@torch.no_grad()
def test_a_file_of_half_precision_is_as_near_as_its_numbers_are(model: Fixture, tmp_path: Path) -> None:
    loaded = pipeline(model)
    with trained(loaded, model.family, SETTINGS["lora"]) as network:
        wanted = computed(loaded)
        write_adapter(network, str(tmp_path / "made.safetensors"), {})
    fresh = pipeline(model)
    fresh.load_lora_weights(tmp_path, weight_name="made.safetensors")
    assert distance(computed(fresh), wanted) < 0.02


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_file_has_its_type_the_metadata_and_the_hashes(
    sd15: Any, dtype: AdapterDtype, tmp_path: Path
) -> None:
    path = tmp_path / "made.safetensors"
    with trained(sd15, "sd15", SETTINGS["locon"]) as network:
        written = write_adapter(network, str(path), {"ss_v2": "False"}, dtype=dtype)
    with open_weights(str(path)) as file:
        hashes = file_hashes(file)
        codes = {tensor.dtype for tensor in file.header.tensors.values()}
        alphas = {float(file.tensor(name)) for name in file.names if name.endswith(".alpha")}
        metadata = file.header.metadata
    assert codes == {{"fp32": "F32", "fp16": "F16", "bf16": "BF16"}[dtype]}
    assert metadata == {
        "ss_v2": "False",
        "sshs_model_hash": hashes.model,
        "sshs_legacy_hash": hashes.legacy,
    }
    assert written.sha256 == hashes.sha256
    # Diffusers reads one alpha for a file, so it has one; that of training was 2 here and 3 there.
    assert alphas == {2.0}


def test_two_files_of_one_network_are_the_same_bytes(sd15: Any, tmp_path: Path) -> None:
    with trained(sd15, "sd15", SETTINGS["locon"]) as network:
        hashes = [write_adapter(network, str(tmp_path / name), {}).sha256 for name in ("a", "b")]
    assert hashes[0] == hashes[1]


def test_a_number_that_its_type_cannot_hold_is_refused_and_leaves_no_file(sd15: Any, tmp_path: Path) -> None:
    with trained(sd15, "sd15", SETTINGS["lora"]) as network, torch.no_grad():
        next(network.parameters())[0] = 1e6
        with pytest.raises(WeightsUnsupported, match="65504"):
            write_adapter(network, str(tmp_path / "made.safetensors"), {})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays_unless_it_is_to_be_overwritten(sd15: Any, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    path.write_text("mine", encoding="utf-8")
    settings = LoraNetwork(rank=1, include=["lora_te_*"])
    network = inject("sd15", components(sd15), settings, seed=0)
    with pytest.raises(OutputExists):
        write_adapter(network, str(path), {})
    assert path.read_text(encoding="utf-8") == "mine"
    write_adapter(network, str(path), {}, overwrite=True)
    assert path.stat().st_size > 1000


def test_names_of_peft_come_without_alphas(sd15: Any, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    with trained(sd15, "sd15", SETTINGS["lora"]) as network:
        write_adapter(network, str(path), {}, naming="peft")
    with open_weights(str(path)) as file:
        assert {name.rpartition(".lora_")[2] for name in file.names} == {"A.weight", "B.weight"}
        assert {name.partition(".")[0] for name in file.names} == {"unet", "text_encoder"}
        assert sum("text_model.encoder" in name for name in file.names) == 72 * 2
