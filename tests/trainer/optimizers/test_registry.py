"""From settings to optimizers, and what is said where one cannot be had."""

import sys
import typing

import pytest
import torch

from contract.errors import DependencyMissing, InvalidParams
from contract.methods.training.optimizer import (
    Adafactor,
    AdamW,
    AdamW8bit,
    CustomOptimizer,
    Optimizer,
    Prodigy,
)
from contract.methods.training.optimizer import is_schedule_free as says_schedule_free
from tests.trainer.optimizers.small import SETTINGS, Training
from trainer.optimizers import OPTIMIZERS, is_schedule_free, kind_of, optimizer_of


def custom(name: str, **arguments: bool | int | float | str) -> torch.optim.Optimizer:
    settings = CustomOptimizer(import_name=name, arguments=dict(arguments))
    return optimizer_of(settings, {"unet": [torch.nn.Parameter(torch.ones(2))]})


def test_every_type_of_the_settings_has_its_kind() -> None:
    types = {arm.__struct_config__.tag for arm in typing.get_args(Optimizer)}
    assert types == {*OPTIMIZERS, "custom"}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_optimizer_learns(name: str) -> None:
    training = Training(SETTINGS[name])
    before = training.loss().item()
    training.steps(200)
    assert training.loss().item() < 0.6 * before


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_know_which_are_schedule_free(name: str) -> None:
    assert is_schedule_free(Training(SETTINGS[name]).optimizer) == says_schedule_free(SETTINGS[name])


def test_each_component_is_a_group_with_its_own_rate() -> None:
    optimizer = Training(AdamW(learning_rate=0.3, text_encoder_rate=0.2, weight_decay=0.05)).optimizer
    groups = [(group["name"], group["lr"], group["initial_lr"]) for group in optimizer.param_groups]
    assert groups == [("unet", 0.3, 0.3), ("te1", 0.2, 0.2)]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.05]


def test_components_that_are_not_trained_are_left_out() -> None:
    optimizer = Training(AdamW(learning_rate=0.0, rates={"te1": 0.1})).optimizer
    assert [group["name"] for group in optimizer.param_groups] == ["te1"]


def test_prodigy_has_its_weight_decay_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    optimizer = Training(Prodigy(weight_decay=0.25)).optimizer
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25]
    assert capfd.readouterr() == ("", "")


def test_adafactor_takes_the_rate_that_was_asked_for() -> None:
    training = Training(Adafactor(learning_rate=0.5))
    before = training.down.detach().clone()
    training.up.data.fill_(1.0)
    training.steps(1)
    # Its update has a mean square of 1 before the rate, as the gradient's factors are exact for the first.
    moved = training.down.detach() - before
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.5, rel=0.05)


def test_eight_bits_need_a_package_that_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(DependencyMissing, match="`adamw8bit` needs bitsandbytes") as missing:
        kind_of(AdamW8bit()).load()
    assert missing.value.hint == "Install it: pip install bitsandbytes -c constraints.txt."


def test_any_optimizer_of_torch_can_be_named() -> None:
    optimizer = custom("torch.optim.SGD", momentum=0.5)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.5


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(DependencyMissing, match="`no_such_package.optim` or something it needs is missing"):
        custom("no_such_package.optim.Best")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torch.optim.Adamm", "`torch.optim` has no such class"),
        ("torch.nn.Linear", "it is no optimizer"),
        ("os.system", "it is no optimizer"),
    ],
)
def test_what_is_no_optimizer_is_refused_and_never_called(name: str, says: str) -> None:
    with pytest.raises(InvalidParams, match=says) as refused:
        custom(name)
    assert refused.value.where == "$.params.settings.optimizer.import_name"


def test_an_argument_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        InvalidParams, match="has no argument `momentun`; it has momentum, dampening"
    ) as refused:
        custom("torch.optim.SGD", momentun=0.9)
    assert refused.value.where == "$.params.settings.optimizer.arguments.momentun"


def test_a_value_that_the_class_refuses_is_named() -> None:
    with pytest.raises(InvalidParams, match="refuses its arguments: momentum=-1"):
        custom("torch.optim.SGD", momentum=-1)
