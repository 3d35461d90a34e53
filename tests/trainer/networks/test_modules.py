"""One module over one layer: its arithmetic, its types, its dropout."""

from typing import TypeVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainer.networks.dropout import Dropout, Moment
from trainer.networks.locon import ConvLora
from trainer.networks.lora import LinearLora
from trainer.networks.low_rank import LowRank

Filled = TypeVar("Filled", bound=LowRank)


def _linear(**options: object) -> LinearLora:
    return _filled(LinearLora("lora_unet_a", (6, 10), rank=3, alpha=2.0, **options))  # type: ignore[arg-type]


def test_a_linear_module_changes_its_weight_by_alpha_over_rank_times_the_factors() -> None:
    layer, module, x = nn.Linear(10, 6), _linear(), _random(2, 5, 10)
    weight = layer.weight + 2.0 / 3 * module.up @ module.down
    torch.testing.assert_close(module(x, layer(x)), functional.linear(x, weight, layer.bias))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, dilation=2),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 1),
    ],
)
def test_a_convolutional_module_changes_its_kernel_the_same_way(layer: nn.Conv2d) -> None:
    module, x = _filled(ConvLora("lora_unet_a", layer, rank=3, alpha=2.0)), _random(2, 4, 9, 8)
    change = (module.up.flatten(1) @ module.down.flatten(1)).reshape(layer.weight.shape)
    with torch.no_grad():
        changed = layer(x) - layer.bias.view(-1, 1, 1) if layer.bias is not None else layer(x)
        found = module(x, changed)
        layer.weight += 2.0 / 3 * change
        wanted = layer(x) - layer.bias.view(-1, 1, 1) if layer.bias is not None else layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_factors_stay_fp32_over_a_base_of_any_type(dtype: torch.dtype, autocast: bool) -> None:
    layer, module = nn.Linear(10, 6).to(dtype).requires_grad_(False), _linear()
    x = _random(2, 5, 10).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        base = layer(x)
        out = module(x, base)
    assert out.dtype == base.dtype
    out.float().square().mean().backward()
    for parameter in module.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any()
    exact = functional.linear(x.float(), layer.weight.float() + 2.0 / 3 * module.up @ module.down)
    exact = exact + layer.bias.float()
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.2)


def _dropped(share: float, ranks: float, moment: Moment, name: str = "lora_unet_a") -> LinearLora:
    return _linear(dropout=Dropout(name, moment, share=share, ranks=ranks))


@pytest.mark.parametrize(("share", "ranks"), [(0.5, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_dropout_follows_from_seed_step_part_and_name(share: float, ranks: float) -> None:
    x, zero = _random(4, 5, 10), torch.zeros(4, 5, 6)

    def outputs(seed: int, step: int, part: int, name: str) -> torch.Tensor:
        moment = Moment(seed)
        module = _dropped(share, ranks, moment, name)
        module(x, zero)  # what was drawn before makes no difference
        moment.step, moment.part = step, part
        dropped: torch.Tensor = module(x, zero)
        return dropped.detach()

    first = outputs(1, 2, 0, "a")
    assert torch.equal(first, outputs(1, 2, 0, "a"))
    for other in ((2, 2, 0, "a"), (1, 3, 0, "a"), (1, 2, 1, "a"), (1, 2, 0, "b")):
        assert not torch.equal(first, outputs(*other))


def test_dropout_uses_and_moves_no_global_numbers() -> None:
    before = torch.get_rng_state()
    _dropped(0.5, 0.5, Moment(1))(_random(4, 5, 10), torch.zeros(4, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_training_nothing_is_dropped() -> None:
    x, zero = _random(4, 5, 10), torch.zeros(4, 5, 6)
    module = _dropped(0.5, 0.5, Moment(1)).eval()
    assert torch.equal(module(x, zero), _linear()(x, zero))


@pytest.mark.parametrize(("share", "ranks"), [(0.25, 0.0), (0.0, 0.25)])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float, ranks: float) -> None:
    dropout = Dropout("a", Moment(4), share=share, ranks=ranks)
    kept = dropout(torch.ones(500, 20, 8), -1)
    assert float((kept == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.03)


def test_ranks_are_dropped_whole_for_each_sample() -> None:
    dropout = Dropout("a", Moment(4), share=0.0, ranks=0.5)
    linear = dropout(torch.ones(6, 20, 8), -1)
    assert all(len(column.unique()) == 1 for sample in linear for column in sample.T)
    convolved = dropout(torch.ones(6, 8, 3, 4), 1)
    assert all(len(channel.unique()) == 1 for sample in convolved for channel in sample)
    assert not torch.equal(convolved[0], convolved[1])


def _random(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _filled(module: Filled) -> Filled:
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(_random(*parameter.shape, seed=index))
    return module
