"""Networks over a model: what they change, what is trained, and that nothing is left of them."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from contract.errors import InvalidParams, WeightsMismatch
from contract.methods.training.network import LoraNetwork
from tests.trainer.networks.parts import (
    SETTINGS,
    components,
    computed,
    disturb,
    moved,
    pipeline,
    trained,
)
from trainer.fixtures import Fixture
from trainer.networks import Network, inject


@pytest.mark.parametrize("kind", ["lora", "locon"])
@torch.no_grad()
def test_a_new_network_changes_nothing_and_one_that_is_removed_leaves_nothing(
    model: Fixture, kind: str
) -> None:
    loaded = pipeline(model)
    before = computed(loaded)
    network = inject(model.family, components(loaded), SETTINGS[kind], seed=1)
    assert _same(computed(loaded), before)
    disturb(network, seed=1)
    assert moved(computed(loaded), before)
    network.remove()
    network.remove()
    assert _same(computed(loaded), before)
    layers = [layer for part in components(loaded).values() for layer in part.modules()]
    assert not any("forward" in layer.__dict__ for layer in layers)


@torch.no_grad()
def test_two_networks_add_up_and_come_off_in_turn(sd15: Any) -> None:
    before = computed(sd15)
    with trained(sd15, "sd15", SETTINGS["lora"], seed=1):
        one = computed(sd15)
        with trained(sd15, "sd15", SETTINGS["locon"], seed=2):
            assert moved(computed(sd15), one)
        assert _same(computed(sd15), one)
    assert _same(computed(sd15), before)


def test_only_the_factors_get_gradients(model: Fixture) -> None:
    loaded = pipeline(model)
    with trained(loaded, model.family, SETTINGS["locon"]) as network:
        # More than one place of the latent reaches the middle: of one alone, queries and keys say nothing.
        _backward(computed(loaded, side=16))
        for part in components(loaded).values():
            assert all(not each.requires_grad and each.grad is None for each in part.parameters())
        # The last layer of each text encoder is behind what the U-Net is given, but is looked at itself.
        gradients = {key: _parameter(network, key).grad for key in network.state()}
        dead = {key for key, gradient in gradients.items() if gradient is None or not gradient.any()}
    assert not dead


def test_gradients_with_checkpointing_are_those_without(model: Fixture) -> None:
    loaded = pipeline(model)
    settings = LoraNetwork(rank=4, alpha=2.0, dropout=0.2, rank_dropout=0.2)
    with trained(loaded, model.family, settings) as network:
        plain = _gradients(loaded, network)
        for part in components(loaded).values():
            part.train()
        _checkpoint(components(loaded))
        again = _gradients(loaded, network)
    assert plain.keys() == again.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-4, atol=1e-6)


def test_each_component_is_a_group_with_its_own_rate(model: Fixture) -> None:
    loaded = pipeline(model)
    parts = components(loaded)
    rates = {"unet": 1e-4, "te1": 5e-5, "te2": 1e-5}
    network = inject(model.family, parts, SETTINGS["lora"], seed=1)
    groups = network.groups(rates)
    assert [group["name"] for group in groups] == list(parts)
    assert [group["lr"] for group in groups] == [rates[name] for name in parts]
    parameters = [each for group in groups for each in group["params"]]
    assert {id(each) for each in parameters} == {id(each) for each in network.parameters()}
    assert len(parameters) == 2 * len(network.places)
    optimizer = torch.optim.AdamW(groups)  # type: ignore[arg-type]  # a TypedDict is no dict[str, Any]
    assert [group["lr"] for group in optimizer.param_groups] == [rates[name] for name in parts]
    with pytest.raises(KeyError):
        network.groups({})


def test_a_component_that_is_not_given_is_left_alone(sd15: Any) -> None:
    network = inject("sd15", {"te1": sd15.text_encoder}, SETTINGS["lora"], seed=1)
    assert network.components == ["te1"]
    assert all(name.startswith("lora_te_text_model_encoder_layers_") for name in network.places)
    assert all(each.requires_grad for each in sd15.unet.parameters())


def test_filters_are_globs_on_the_names_of_files(sd15: Any) -> None:
    settings = LoraNetwork(include=["lora_unet_*_attn?_to_[qk]", "lora_te_*"], exclude=["*_up_blocks_*"])
    found = inject("sd15", components(sd15), settings, seed=1).places
    inner = Counter(name.rpartition("_")[2] for name in found if name.startswith("lora_unet"))
    assert inner.keys() == {"q", "k"}
    assert not any("up_blocks" in name for name in found)
    assert any("mid_block" in name for name in found)
    assert sum(name.startswith("lora_te_") for name in found) == 72


@pytest.mark.parametrize(
    ("settings", "where", "says"),
    [
        (LoraNetwork(include=["lora_te_*", "*attnn*"]), "include[1]", "fits none of the 264"),
        (LoraNetwork(exclude=["*conv1*"]), "exclude[0]", "fits none of the 264"),
        (LoraNetwork(exclude=["*"]), "exclude", "no module"),
    ],
)
def test_filters_that_do_nothing_or_all_are_refused(
    sd15: Any, settings: LoraNetwork, where: str, says: str
) -> None:
    before = computed(sd15)
    with pytest.raises(InvalidParams, match=says) as caught:
        inject("sd15", components(sd15), settings, seed=1)
    assert caught.value.where == f"$.params.settings.network.{where}"
    assert _same(computed(sd15), before)


def test_a_component_without_modules_is_refused() -> None:
    with pytest.raises(InvalidParams, match="no modules in this model: te1 of sd15"):
        inject("sd15", {"te1": nn.Linear(2, 2)}, LoraNetwork(), seed=1)


def test_the_beginning_follows_from_the_seed_and_the_name_alone(sd15: Any) -> None:
    parts = components(sd15)
    networks = [inject("sd15", parts, LoraNetwork(), seed=seed) for seed in (5, 5, 6)]
    few = inject("sd15", parts, LoraNetwork(include=["*mid_block*"]), seed=5)
    first, second, other = (network.state() for network in networks)
    assert _same(first, second)
    assert all(torch.equal(first[key], tensor) for key, tensor in few.state().items())
    downs = [key for key in first if "lora_down" in key]
    assert not any(torch.equal(first[key], other[key]) for key in downs)
    assert not any(torch.equal(first[one], first[two]) for one, two in pairwise(downs))
    assert not any(first[key].any() for key in first if "lora_up" in key)


def test_the_beginning_is_as_wide_as_that_of_torch() -> None:
    layer = nn.Linear(400, 8)
    from trainer.networks.lora import LinearLora

    module = LinearLora("lora_unet_x", (8, 400), rank=64, alpha=1.0)
    module.initialise(3)
    wanted = nn.init.kaiming_uniform_(torch.empty(64, 400), a=5**0.5)
    down = module.down.detach()
    assert float(down.abs().max()) <= layer.in_features**-0.5
    assert float(down.std()) == pytest.approx(float(wanted.std()), rel=0.02)
    assert abs(float(down.mean())) < 0.001


def test_the_state_brings_a_network_back(sd15: Any) -> None:
    with trained(sd15, "sd15", SETTINGS["locon"], seed=1) as network:
        kept = {key: tensor.clone() for key, tensor in network.state().items()}
        wanted = computed(sd15)
        assert sorted(kept) == list(kept)
    with trained(sd15, "sd15", SETTINGS["locon"], seed=2) as other:
        assert moved(computed(sd15), wanted)
        other.load(kept)
        assert _same(computed(sd15), wanted)


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_a_state_of_another_network_is_refused_by_name_and_changes_nothing(sd15: Any, change: str) -> None:
    network = inject("sd15", components(sd15), SETTINGS["lora"], seed=1)
    state = {key: torch.ones_like(tensor) for key, tensor in network.state().items()}
    key = list(state)[7]
    if change == "missing":
        del state[key]
    elif change == "more":
        key = f"{key}.more"
        state[key] = torch.zeros(1)
    else:
        state[key] = torch.zeros(3, 3)
    with pytest.raises(WeightsMismatch) as caught:
        network.load(state, where="/runs/one/state.safetensors")
    assert f"`{key}`" in caught.value.message
    assert "/runs/one/state.safetensors" in caught.value.message
    assert not any(tensor.any() for name, tensor in network.state().items() if "lora_up" in name)


def _same(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def _backward(output: Mapping[str, torch.Tensor]) -> None:
    total = sum(each.float().square().mean() for each in output.values())
    assert isinstance(total, torch.Tensor)
    total.backward()  # type: ignore[no-untyped-call]


def _parameter(network: Network, key: str) -> nn.Parameter:
    name, role, _ = key.split(".")
    parameter: nn.Parameter = getattr(network.places[name].module, role.removeprefix("lora_"))
    return parameter


def _gradients(loaded: Any, network: Network) -> dict[str, torch.Tensor]:
    network.zero_grad()
    network.at(3, 1)
    _backward(computed(loaded))
    gradients = {key: _parameter(network, key).grad for key in network.state()}
    return {key: gradient.clone() for key, gradient in gradients.items() if gradient is not None}


def _checkpoint(parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        if name == "unet":
            part.enable_gradient_checkpointing()
        else:
            part.activation_checkpointing_enable({"use_reentrant": False})
