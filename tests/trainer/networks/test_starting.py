"""A network that begins with the file of another training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.errors import WeightsMismatch, WeightsNotFinite, WeightsUnsupported
from contract.methods.training.network import LoconNetwork, LoraNetwork
from contract.methods.training.network import Network as Settings
from tests.trainer.networks.parts import (
    SETTINGS,
    components,
    computed,
    distance,
    fixture,
    moved,
    pipeline,
    trained,
)
from trainer.fixtures import Fixture
from trainer.networks import Network, Started, inject, start_from, write_adapter
from trainer.networks.writing import AdapterNaming
from trainer.weights.tensor_file import open_weights

Edit = Callable[[dict[str, torch.Tensor]], None]


@pytest.mark.parametrize("naming", ["kohya", "peft"])
@pytest.mark.parametrize("kind", ["lora", "locon"])
@torch.no_grad()
def test_it_computes_what_the_model_computed_when_the_file_was_written(
    model: Fixture, kind: str, naming: AdapterNaming, tmp_path: Path
) -> None:
    loaded = pipeline(model)
    before = computed(loaded)
    file = tmp_path / "made.safetensors"
    with trained(loaded, model.family, SETTINGS[kind]) as network:
        wanted = computed(loaded)
        write_adapter(network, str(file), {}, dtype="fp32", naming=naming)
    assert moved(wanted, before)
    again = inject(model.family, components(loaded), SETTINGS[kind], seed=9)
    started = _start(again, file)
    assert distance(computed(loaded), wanted) < 1e-4
    assert sorted(started.loaded) == sorted(again.places)
    assert (started.fresh, started.left_out) == ([], [])


@torch.no_grad()
def test_another_alpha_changes_nothing_of_what_was_learnt(sd15: Any, file: Path) -> None:
    with trained(sd15, "sd15", SETTINGS["lora"]):
        wanted = computed(sd15)
    network = inject("sd15", components(sd15), LoraNetwork(rank=4, alpha=16.0), seed=9)
    _start(network, file)
    assert distance(computed(sd15), wanted) < 1e-4


def test_modules_that_are_only_here_begin_anew_and_those_only_there_are_named(sd15: Any, file: Path) -> None:
    settings = LoconNetwork(rank=4, include=["lora_unet_mid_block_*"])
    network = inject("sd15", components(sd15), settings, seed=9)
    fresh = {key: tensor.clone() for key, tensor in network.state().items()}
    started = _start(network, file)
    assert any("attn1" in name for name in started.loaded)
    assert all("resnets" in name for name in started.fresh)
    assert any(name.startswith("lora_te_") for name in started.left_out)
    assert len(started.loaded) + len(started.left_out) == 264
    for name in started.fresh:
        assert torch.equal(network.state()[f"{name}.lora_down.weight"], fresh[f"{name}.lora_down.weight"])
        assert not network.state()[f"{name}.lora_up.weight"].any()


@pytest.mark.parametrize(
    ("settings", "says", "hint"),
    [
        (LoraNetwork(rank=8), "has rank 4 at", "Set `network.rank` to 4."),
        (LoconNetwork(rank=4, conv_rank=3), "has rank 2 at", "Set `network.conv_rank` to 2."),
    ],
)
def test_another_rank_is_refused_with_the_one_that_fits(
    sd15: Any, file: Path, locon_file: Path, settings: Settings, says: str, hint: str
) -> None:
    network = inject("sd15", components(sd15), settings, seed=9)
    with _unchanged(network), pytest.raises(WeightsMismatch, match=says) as caught:
        _start(network, locon_file if isinstance(settings, LoconNetwork) else file)
    assert caught.value.hint == hint


def test_a_lora_of_another_family_is_refused(sd15: Any, models_folder: Path, tmp_path: Path) -> None:
    other = pipeline(fixture("sdxl", models_folder))
    path = tmp_path / "sdxl.safetensors"
    with trained(other, "sdxl", SETTINGS["lora"]) as network:
        write_adapter(network, str(path), {})
    mine = inject("sd15", components(sd15), SETTINGS["lora"], seed=9)
    with _unchanged(mine), pytest.raises(WeightsMismatch):
        _start(mine, path)


@pytest.mark.parametrize(
    ("edit", "error", "says"),
    [
        (lambda tensors: _set(tensors, "lora_up", float("nan")), WeightsNotFinite, "NaN or infinite"),
        (lambda tensors: _set(tensors, "lora_down", float("inf")), WeightsNotFinite, "NaN or infinite"),
        (lambda tensors: _widen(tensors), WeightsMismatch, "changes a weight of"),
        (lambda tensors: _dora(tensors), WeightsUnsupported, "only LoRA and LoCon"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused_by_the_name_of_its_module(
    sd15: Any, file: Path, edit: Edit, error: type[Exception], says: str
) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)
    network = inject("sd15", components(sd15), SETTINGS["lora"], seed=9)
    with _unchanged(network), pytest.raises(error, match=says) as caught:
        _start(network, file)
    assert _KEY in str(caught.value)


def test_a_lora_of_none_of_the_modules_is_refused(sd15: Any, file: Path) -> None:
    tensors = {key: tensor for key, tensor in load_file(file).items() if key.startswith("lora_te_")}
    save_file(tensors, file)
    network = inject("sd15", {"unet": sd15.unet}, SETTINGS["lora"], seed=9)
    with pytest.raises(WeightsMismatch, match="none of the modules"):
        _start(network, file)


@pytest.fixture
def file(sd15: Any, tmp_path: Path) -> Path:
    """A LoRA of the small SD1.5."""
    return _written(sd15, "lora", tmp_path)


@pytest.fixture
def locon_file(sd15: Any, tmp_path: Path) -> Path:
    """A LoCon of it."""
    return _written(sd15, "locon", tmp_path)


_KEY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@contextmanager
def _unchanged(network: Network) -> Iterator[None]:
    """That what is done inside leaves a network as it is."""
    before = {key: tensor.clone() for key, tensor in network.state().items()}
    yield
    now = network.state()
    assert all(torch.equal(now[key], tensor) for key, tensor in before.items())


def _written(loaded: Any, kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.safetensors"
    with trained(loaded, "sd15", SETTINGS[kind]) as network:
        write_adapter(network, str(path), {}, dtype="fp32")
    return path


def _start(network: Network, path: Path) -> Started:
    with open_weights(str(path)) as file:
        return start_from(network, file)


def _set(tensors: dict[str, torch.Tensor], role: str, value: float) -> None:
    tensors[f"{_KEY}.{role}.weight"][0, 0] = value


def _widen(tensors: dict[str, torch.Tensor]) -> None:
    down = tensors[f"{_KEY}.lora_down.weight"]
    tensors[f"{_KEY}.lora_down.weight"] = torch.zeros(down.shape[0], down.shape[1] + 1)


def _dora(tensors: dict[str, torch.Tensor]) -> None:
    up = tensors[f"{_KEY}.lora_up.weight"]
    tensors[f"{_KEY}.dora_scale"] = torch.ones(up.shape[0], 1)
