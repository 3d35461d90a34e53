"""Alphas, ranges and names of what is written."""

import random

import pytest
import torch

from contract.errors import WeightsUnsupported
from contract.methods.weights import AlphaRule
from trainer.weights.adapter_output import ModuleOut, balance, even_alpha, rounded, scaling, stored
from trainer.weights.dtypes import torch_dtype
from trainer.weights.tensor_writer import TensorSpec

_RULES: tuple[AlphaRule, ...] = ("even", "proportional", "rank", "one")


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    source = random.Random(0)
    numbers = [source.uniform(-1, 1) * 10 ** source.uniform(-9, 4.8) for _ in range(2000)] + [
        0.0,
        65519.0,
        65521.0,
    ]
    for code in ("F32", "F16", "BF16", "F64"):
        exact = torch.tensor(numbers, dtype=torch.float64)
        assert [rounded(each, code) for each in numbers] == exact.to(torch_dtype(code)).double().tolist()


def test_the_scale_is_the_same_whatever_the_rule() -> None:
    source = random.Random(1)
    for _ in range(500):
        scale, rank = source.choice([-1, 1]) * 10 ** source.uniform(-4, 3), source.randint(1, 256)
        for rule in _RULES:
            for code in ("F32", "F16", "BF16"):
                for has_alpha in (True, False):
                    found = scaling(rule, scale, rank, code, has_alpha=has_alpha, even=6.5)
                    alpha = rank if found.alpha is None else found.alpha
                    assert alpha / rank * found.factor == pytest.approx(scale, rel=1e-12)
                    assert alpha == rounded(alpha, code) and alpha != 0


def test_alphas_follow_their_rule() -> None:
    assert scaling("proportional", 0.5, 16, "F16", has_alpha=True, even=4.0) == (8.0, 1.0)
    assert scaling("rank", 0.5, 16, "F16", has_alpha=True, even=4.0) == (16.0, 0.5)
    assert scaling("even", 0.5, 16, "F16", has_alpha=True, even=4.0) == (4.0, 2.0)
    assert scaling("one", 0.5, 16, "F16", has_alpha=True, even=4.0) == (1.0, 8.0)
    assert scaling("proportional", 0.5, 16, "F16", has_alpha=False, even=4.0) == (None, 0.5)
    assert scaling("one", 0.5, 16, "F16", has_alpha=False, even=4.0) == (None, 0.5)
    assert scaling("proportional", 1e9, 16, "F16", has_alpha=True, even=4.0) == (16.0, 1e9)


def test_the_alpha_that_all_can_share_is_the_commonest() -> None:
    assert even_alpha([(0.5, 16), (0.5, 4), (-0.5, 4), (0.0, 8)]) == 2.0
    assert even_alpha([(0.5, 16), (0.5, 4)]) == 8.0
    assert even_alpha([]) == even_alpha([(0.0, 8)]) == 1.0


def test_a_scale_of_zero_stays_zero() -> None:
    for rule in _RULES:
        found = scaling(rule, 0.0, 4, "F16", has_alpha=True, even=4.0)
        assert found.factor * (found.alpha or 0) == 0


def test_directions_within_the_range_are_left_as_they_are() -> None:
    assert balance(torch.tensor([1000.0, 1.0, 0.0]), 64, "F16") is None
    assert balance(torch.tensor([1e30, 1e-30]), 64, "BF16") is None
    assert balance(torch.tensor([1e30, 1e-30]), 64, "F32") is None


def test_directions_beyond_the_range_share_their_size_by_powers_of_two() -> None:
    norms = torch.tensor([1e6, 1.0, 1e-6, 0.0], dtype=torch.float64)
    powers = balance(norms, 64, "F16")
    assert powers is not None
    assert torch.equal(torch.frexp(powers).mantissa, torch.full((4,), 0.5, dtype=torch.float64))
    assert powers[1] == 1 and powers[3] == 1
    for row in (0, 2):
        assert 0.5 <= float(norms[row] * powers[row] * powers[row]) <= 2


def test_small_columns_keep_their_size_where_rows_have_less_room() -> None:
    norms = torch.tensor([1e6, 1.0, 1e-6], dtype=torch.float64)
    powers = balance(norms, 64, "F16", "F8_E4M3")
    assert powers is not None
    assert powers[0] < 1 and powers[1] == 1 and powers[2] == 1
    other = balance(norms, 64, "F8_E4M3", "F16")
    assert other is not None and other[2] > 1


def test_even_the_widest_types_have_an_end() -> None:
    norms = torch.tensor([1e48, 1.0], dtype=torch.float64)
    for code in ("F32", "BF16"):
        powers = balance(norms, 64, code)
        assert powers is not None and powers[1] == 1
        assert float(norms[0] * powers[0]) < 1e30
        with pytest.raises(WeightsUnsupported, match="a.up"):
            stored(norms, code, "a.up", "/x")


@pytest.mark.parametrize(("code", "largest"), [("F16", 65504.0), ("F8_E4M3", 448.0), ("F8_E5M2", 57344.0)])
def test_what_a_type_cannot_hold_is_refused_by_name(code: str, largest: float) -> None:
    assert stored(torch.tensor([largest, -largest]), code, "k", "/p").double().tolist() == [largest, -largest]
    for bad in (largest * 1.1, -largest * 1.1, float("nan")):
        with pytest.raises(WeightsUnsupported, match="`k`") as refused:
            stored(torch.tensor([1.0, bad]), code, "k", "/p")
        assert refused.value.details == {"key": "k"}
        assert refused.value.where == "/p"


def test_modules_are_written_as_pairs_with_an_alpha() -> None:
    linear = ModuleOut("lora_unet_a", (8, 6), 2, 1.0, "F16", "BF16", "F32")
    assert linear.specs("kohya") == [
        TensorSpec("lora_unet_a.lora_up.weight", "F16", (8, 2)),
        TensorSpec("lora_unet_a.lora_down.weight", "BF16", (2, 6)),
        TensorSpec("lora_unet_a.alpha", "F32", ()),
    ]
    conv = ModuleOut("transformer.a", (8, 6, 3, 3), 2, None, "F16", "F16", "F16")
    assert conv.specs("peft") == [
        TensorSpec("transformer.a.lora_B.weight", "F16", (8, 2, 1, 1)),
        TensorSpec("transformer.a.lora_A.weight", "F16", (2, 6, 3, 3)),
    ]
