"""Resizing against dense float64 computation: the same ranks, the same ΔW, and everything else kept."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from contract.errors import (
    InvalidParams,
    JobCanceled,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnknown,
    WeightsUnsupported,
)
from contract.methods.resize import ResizeMethod, ResizeOutcome, ResizeParams, ResizeSettings
from contract.methods.weights import AlphaRule, FileInput, FileOutput
from kernel.engines.factors import resized
from kernel.engines.factors.resize import resize
from kernel.jobs import request_cancel
from kernel.surgery import Surgery
from tests.builders import adapters
from tests.builders.adapters import PEFT, Spectrum, Tensors
from tests.builders.surgery import job
from tests.kernel.engines.factors.rules import expected_rank

_DYNAMIC: list[tuple[ResizeMethod, float]] = [("sv_ratio", 3.0), ("sv_cumulative", 0.7), ("sv_fro", 0.9)]
#: Shapes of weights: linear, 1 × 1 and 3 × 3 convolution, and one with fewer rows than the rank.
_SHAPES: dict[str, tuple[int, ...]] = {
    "linear": (48, 40),
    "one": (40, 48, 1, 1),
    "conv": (40, 16, 3, 3),
    "narrow": (6, 80),
}
_RANK = 12
_SDXL = {"ss_base_model_version": "sdxl_base_v1-0"}


class Result(NamedTuple):
    outcome: ResizeOutcome
    tensors: Tensors
    metadata: dict[str, str]
    path: Path


def _resize(
    folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None, **settings: Any
) -> Result:
    source = adapters.write(folder / "in.safetensors", tensors, metadata)
    output = folder / "out.safetensors"
    params = ResizeParams(
        job_id="a",
        inputs=FileInput(file=str(source)),
        outputs=FileOutput(file=str(output), overwrite=True),
        settings=ResizeSettings(**settings),
    )
    with Surgery(job(folder), params.outputs) as surgery:
        outcome = resize(params, surgery)
    with safe_open(output, "pt") as file:
        said = file.metadata() or {}
    return Result(outcome, load_file(output), said, output)


def _all_kinds(dtype: torch.dtype, spectrum: Spectrum, alpha: float | None = 3.0) -> Tensors:
    tensors: Tensors = {}
    for number, (name, shape) in enumerate(_SHAPES.items()):
        tensors |= adapters.lora(
            f"lora_unet_{name}", shape, _RANK, alpha=alpha, dtype=dtype, spectrum=spectrum, seed=number
        )
    return tensors


def _cut(dense: torch.Tensor, rank: int) -> torch.Tensor:
    """The best of a rank, densely."""
    columns, values, rows = torch.linalg.svd(dense.flatten(1), full_matrices=False)
    best: torch.Tensor = (columns[:, :rank] * values[:rank]) @ rows[:rank]
    return best.reshape(dense.shape)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def _ranks(outcome: ResizeOutcome) -> dict[str, int]:
    return {each.name.removeprefix("lora_unet_"): each.new_rank for each in outcome.modules}


@pytest.mark.parametrize("spectrum", ["random", "decaying"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_fixed_rank_gives_the_best_of_that_rank(
    tmp_path: Path, dtype: torch.dtype, spectrum: Spectrum
) -> None:
    tensors = _all_kinds(dtype, spectrum)
    tensors |= adapters.locon_mid("lora_unet_mid", (24, 16, 3, 3), _RANK, alpha=3.0, dtype=dtype)
    result = _resize(tmp_path, tensors, rank=4, dtype="fp32")
    assert set(_ranks(result.outcome).values()) == {4}
    for name in adapters.modules_of(tensors):
        expected = _cut(adapters.dense(tensors, name), 4)
        assert _distance(adapters.dense(result.tensors, name), expected) <= 1e-6, name
        assert {tensor.dtype for key, tensor in result.tensors.items()} == {torch.float32}


@pytest.mark.parametrize(("method", "value"), _DYNAMIC)
@pytest.mark.parametrize("spectrum", ["random", "decaying"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dynamic_ranks_are_those_of_the_dense_spectrum(
    tmp_path: Path, dtype: torch.dtype, spectrum: Spectrum, method: ResizeMethod, value: float
) -> None:
    tensors = _all_kinds(dtype, spectrum, alpha=None)
    result = _resize(tmp_path, tensors, method=method, value=value, rank=9, dtype="fp32")
    for each in result.outcome.modules:
        dense = adapters.dense(tensors, each.name)
        values = np.linalg.svd(dense.flatten(1).numpy(), compute_uv=False)
        rank = min(expected_rank(values, method, value, 9), len(values))
        assert each.new_rank == rank, each.name
        assert _distance(adapters.dense(result.tensors, each.name), _cut(dense, rank)) <= 1e-6
        assert each.sum_retained == pytest.approx(values[:rank].sum() / values.sum(), rel=1e-9)
        norm = np.linalg.norm(values)
        assert each.fro_retained == pytest.approx(np.linalg.norm(values[:rank]) / norm, rel=1e-9)
    assert len(set(_ranks(result.outcome).values())) > 1


@pytest.mark.parametrize(("method", "value"), _DYNAMIC)
def test_rules_look_at_the_factors_and_not_at_their_alpha(
    tmp_path: Path, method: ResizeMethod, value: float
) -> None:
    """Where ΔW is next to nothing by its alpha alone, all directions count; where only its alpha makes it
    large, the module is one of zeros."""
    large = adapters.lora("lora_unet_large", (48, 40), 8, alpha=1e-7, spectrum="decaying")
    small = adapters.lora("lora_unet_small", (48, 40), 8, alpha=1e7, spectrum="decaying", scale=1e-5)
    result = _resize(tmp_path, large | small, method=method, value=value, rank=7)
    up, down = (large[f"lora_unet_large.lora_{part}.weight"].double() for part in ("up", "down"))
    rank = expected_rank(torch.linalg.svdvals(up @ down).numpy(), method, value, 7)
    assert 1 < rank < 7
    assert _ranks(result.outcome) == {"large": rank, "small": 1}
    for name, kept in (("large", rank), ("small", 1)):
        dense = adapters.dense(large | small, f"lora_unet_{name}")
        assert _distance(adapters.dense(result.tensors, f"lora_unet_{name}"), _cut(dense, kept)) <= 1e-6


def test_the_difference_is_never_there_as_a_whole(tmp_path: Path) -> None:
    """Of 600,000 rows and columns it would have 1.4 terabytes."""
    tensors = adapters.lora("lora_unet_a", (600_000, 600_000), 2, alpha=1, scale=1e-2)
    result = _resize(tmp_path, tensors, rank=1)
    assert result.tensors["lora_unet_a.lora_up.weight"].shape == (600_000, 1)
    left, right = (tensors[f"lora_unet_a.lora_{part}.weight"].double() for part in ("up", "down"))
    core = torch.linalg.qr(left).R @ torch.linalg.qr(right.T).R.T
    values = torch.linalg.svdvals(core)
    assert result.outcome.error == pytest.approx(float(values[1] / values.norm()), rel=1e-6)


@pytest.mark.parametrize(("method", "value"), [("fixed", None), *_DYNAMIC])
def test_zero_and_rank_deficient_modules(tmp_path: Path, method: ResizeMethod, value: float | None) -> None:
    tensors = adapters.lora("lora_unet_zero", (20, 30), 8, alpha=2, spectrum="zero")
    low = adapters.lora("lora_unet_low", (20, 30), 2, alpha=1)
    zeros = torch.zeros(20, 6)
    tensors |= {
        "lora_unet_low.lora_up.weight": torch.cat([low["lora_unet_low.lora_up.weight"], zeros], 1),
        "lora_unet_low.lora_down.weight": torch.randn(8, 30, generator=adapters.generator(4)),
        "lora_unet_low.alpha": torch.tensor(4.0),
    }
    result = _resize(tmp_path, tensors, method=method, value=value, rank=4)
    assert _ranks(result.outcome)["zero"] == 1
    assert float(adapters.dense(result.tensors, "lora_unet_zero").norm()) == 0
    dense = adapters.dense(tensors, "lora_unet_low")
    rank = _ranks(result.outcome)["low"]
    assert _distance(adapters.dense(result.tensors, "lora_unet_low"), _cut(dense, min(rank, 2))) <= 1e-6
    for tensor in result.tensors.values():
        assert bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize(("method", "value"), [("fixed", None), ("sv_ratio", 1e6), ("sv_fro", 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_same_rank_or_more_is_the_same_file_but_for_what_it_says(
    tmp_path: Path, dtype: torch.dtype, method: ResizeMethod, value: float | None
) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, alpha=0.7, dtype=dtype, spectrum="decaying")
    tensors |= adapters.lora("lora_unet_b", (48, 8, 3, 3), 8, alpha=3, dtype=dtype)
    result = _resize(tmp_path, tensors, method=method, value=value, rank=64, alpha="proportional")
    assert result.tensors.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert torch.equal(result.tensors[key], tensor), key
    assert result.outcome.error == 0 and result.outcome.fro_retained == 1


def test_more_rank_than_a_module_can_have_is_cut_without_loss(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (6, 80), 20, alpha=5)
    result = _resize(tmp_path, tensors, rank=64)
    assert _ranks(result.outcome) == {"a": 6}
    assert (
        _distance(adapters.dense(result.tensors, "lora_unet_a"), adapters.dense(tensors, "lora_unet_a"))
        <= 1e-6
    )


@pytest.mark.parametrize("alpha", [None, 1.0, 24.0, -3.0])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_difference_is_the_same_whatever_the_alpha_rule(
    tmp_path: Path, dtype: str, alpha: float | None
) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, alpha=alpha, spectrum="decaying")
    best = _cut(adapters.dense(tensors, "lora_unet_a"), 3)
    rules: tuple[AlphaRule, ...] = ("proportional", "rank", "one")
    alphas = []
    for rule in rules:
        result = _resize(tmp_path, tensors, rank=3, alpha=rule, dtype=dtype)
        limit = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 8e-3}[dtype]
        assert _distance(adapters.dense(result.tensors, "lora_unet_a"), best) <= limit
        alphas.append(float(result.tensors["lora_unet_a.alpha"]))
    assert alphas == pytest.approx([(alpha or 8) * 3 / 8, 3, 1], rel=4e-3)


def test_an_alpha_that_its_type_rounds_changes_nothing(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, alpha=0.7, spectrum="decaying")
    tensors["lora_unet_a.alpha"] = tensors["lora_unet_a.alpha"].to(torch.bfloat16)
    result = _resize(tmp_path, tensors, rank=3)
    assert result.tensors["lora_unet_a.alpha"].dtype == torch.bfloat16
    best = _cut(adapters.dense(tensors, "lora_unet_a"), 3)
    assert _distance(adapters.dense(result.tensors, "lora_unet_a"), best) <= 1e-6


def test_up_has_the_values_and_down_orthonormal_rows(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, alpha=4, scale=1.0)
    result = _resize(tmp_path, tensors, rank=3)
    up = result.tensors["lora_unet_a.lora_up.weight"].double()
    down = result.tensors["lora_unet_a.lora_down.weight"].double()
    product = (
        tensors["lora_unet_a.lora_up.weight"].double() @ tensors["lora_unet_a.lora_down.weight"].double()
    )
    assert torch.allclose(up.norm(dim=0), torch.linalg.svdvals(product)[:3], rtol=1e-6)
    assert torch.allclose(down @ down.T, torch.eye(3, dtype=torch.float64), atol=1e-6)
    assert float(result.tensors["lora_unet_a.alpha"]) == 1.5


@pytest.mark.parametrize("size", [4e-4, 1e-2, 1.0, 250.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_holds_large_and_small_loras(tmp_path: Path, dtype: torch.dtype, size: float) -> None:
    tensors = adapters.lora("lora_unet_a", (64, 48), 8, dtype=torch.float32, spectrum="decaying")
    tensors = {key: (tensor * 10 * size).to(dtype) for key, tensor in tensors.items()}
    result = _resize(tmp_path, tensors, rank=4, dtype="fp16")
    found = adapters.dense(result.tensors, "lora_unet_a")
    assert _distance(found, _cut(adapters.dense(tensors, "lora_unet_a"), 4)) <= 6e-4


def test_what_half_precision_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    tensors = {key: tensor * 1e7 for key, tensor in adapters.lora("lora_unet_a", (48, 40), 8).items()}
    with pytest.raises(WeightsUnsupported, match="lora_unet_a") as refused:
        _resize(tmp_path, tensors, rank=4, dtype="fp16")
    assert "bf16" in str(refused.value.hint)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_error_that_is_stated_is_the_true_one(tmp_path: Path, dtype: str) -> None:
    tensors = _all_kinds(torch.float32, "decaying")
    result = _resize(tmp_path, tensors, rank=10, dtype=dtype)
    squares = lost = 0.0
    for each in result.outcome.modules:
        dense = adapters.dense(tensors, each.name)
        found = adapters.dense(result.tensors, each.name)
        true = float((found - dense).norm())
        assert each.error == pytest.approx(true / float(dense.norm()), rel=0.1, abs=3e-7), each.name
        squares, lost = squares + float(dense.norm()) ** 2, lost + true**2
    assert result.outcome.error == pytest.approx((lost / squares) ** 0.5, rel=0.05)
    assert result.outcome.fro_retained == pytest.approx((1 - lost / squares) ** 0.5, rel=1e-3)


def test_types_and_names_stay_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    tensors = {
        "unet.a.to_q.lora.up.weight": torch.randn(8, 4).half(),
        "unet.a.to_q.lora.down.weight": torch.randn(4, 8).bfloat16(),
        "unet.b.to_q_lora.up.weight": torch.randn(8, 4),
        "unet.b.to_q_lora.down.weight": torch.randn(4, 8),
        "unet.c.lora_A.default.weight": torch.randn(4, 8),
        "unet.c.lora_B.default.weight": torch.randn(8, 4),
        "unet.c.alpha": torch.tensor(2.0),
    }
    result = _resize(tmp_path, tensors, rank=2)
    assert {key: tensor.dtype for key, tensor in result.tensors.items()} == {
        key: tensor.dtype for key, tensor in tensors.items()
    }
    assert {tensor.shape for tensor in result.tensors.values()} == {(8, 2), (2, 8), ()}


def test_alphas_of_diffusers_end_up_in_the_factors(tmp_path: Path) -> None:
    name = "transformer.blocks.0.q"
    tensors = adapters.lora(name, (24, 20), 8, pair=PEFT, spectrum="decaying")
    result = _resize(
        tmp_path, tensors, adapters.diffusers_config({"blocks.0.q": 2.0}, "transformer", 8), rank=3
    )
    expected = _cut(adapters.dense(tensors, name), 3) * (2 / 8)
    assert _distance(adapters.dense(result.tensors, name), expected) <= 1e-6
    assert "lora_adapter_metadata" not in result.metadata
    assert f"{name}.alpha" not in result.tensors


def test_what_is_no_pair_of_factors_passes_bit_for_bit_and_is_listed(tmp_path: Path) -> None:
    other = (
        adapters.full("lora_unet_full", (8, 6), bias=True)
        | adapters.loha("lora_unet_loha", (8, 6), 4, alpha=1, dtype=torch.float16)
        | adapters.lokr("lora_unet_lokr", (2, 3), (4, 2), alpha=1)
        | {"lora_unet_norm.w_norm": torch.ones(8), "text_embedding": torch.arange(3)}
    )
    tensors = other | adapters.lora("lora_unet_a", (8, 6), 4, alpha=2)
    result = _resize(tmp_path, tensors, rank=2, dtype="fp16", alpha="one")
    for key, tensor in other.items():
        assert torch.equal(result.tensors[key], tensor) and result.tensors[key].dtype == tensor.dtype
    names = ["lora_unet_full", "lora_unet_loha", "lora_unet_lokr", "lora_unet_norm", "text_embedding"]
    assert sorted(result.outcome.unchanged) == names
    assert list(_ranks(result.outcome)) == ["a"]
    assert any("`text_embedding`" in each for each in result.outcome.warnings)


def test_magnitudes_of_a_dora_are_kept_and_said_to_be(tmp_path: Path) -> None:
    tensors = adapters.dora("lora_unet_a", (24, 20), 8, alpha=4, dtype=torch.float16)
    result = _resize(tmp_path, tensors, rank=2, dtype="fp32")
    assert torch.equal(result.tensors["lora_unet_a.dora_scale"], tensors["lora_unet_a.dora_scale"])
    assert result.tensors["lora_unet_a.dora_scale"].dtype == torch.float16
    assert any("DoRA" in each and "lora_unet_a" in each for each in result.outcome.warnings)


def test_a_bias_of_the_factors_keeps_its_size(tmp_path: Path) -> None:
    name = "transformer.a"
    tensors = adapters.lora(name, (24, 20), 8, alpha=2, pair=PEFT) | {f"{name}.lora_B.bias": torch.randn(24)}
    for rule in ("proportional", "rank", "one"):
        result = _resize(tmp_path, tensors, rank=2, alpha=rule)
        scale = float(result.tensors[f"{name}.alpha"]) / 2
        expected = tensors[f"{name}.lora_B.bias"] * (2 / 8)
        assert torch.allclose(result.tensors[f"{name}.lora_B.bias"] * scale, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "key", ["lora_unet_a.lora_up.weight", "lora_unet_a.lora_down.weight", "lora_unet_b.diff"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path: Path, key: str, value: float) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8) | adapters.full("lora_unet_b", (8, 6))
    tensors[key][1, 2] = value
    with pytest.raises(WeightsNotFinite, match=key) as refused:
        _resize(tmp_path, tensors, rank=2)
    assert refused.value.details == {"key": key}
    assert refused.value.where == str(tmp_path / "in.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_a_file_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="in.safetensors"):
        _resize(tmp_path, {"model.weight": torch.ones(3)})


def test_the_file_says_its_new_ranks(tmp_path: Path) -> None:
    before = {"ss_network_dim": "12", "ss_network_alpha": "3", "ss_training_comment": "mine", "ss_tag": "x"}
    tensors = _all_kinds(torch.float32, "decaying")
    fixed = _resize(tmp_path, tensors, before, rank=4).metadata
    assert (fixed["ss_network_dim"], fixed["ss_network_alpha"], fixed["ss_tag"]) == ("4", "1", "x")
    assert fixed["ss_training_comment"] == "dimension is resized from 12 to 4; mine"
    dynamic = _resize(tmp_path, tensors, before, method="sv_fro", value=0.7, rank=9).metadata
    assert (dynamic["ss_network_dim"], dynamic["ss_network_alpha"]) == ("Dynamic", "0.75")
    settings = {"method": "sv_fro", "value": 0.7, "rank": 9, "alpha": "proportional"}
    assert _resize(tmp_path, tensors, before, **settings).metadata["ss_network_alpha"] == "Dynamic"
    assert dynamic["ss_training_comment"] == "Dynamic resize with sv_fro: 0.7 from 12; mine"


def test_the_hashes_in_the_metadata_are_made_anew(tmp_path: Path) -> None:
    before = {"ss_tag": "x", "sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8, "other": "text" * 99}
    tensors = adapters.lora("lora_unet_a", (700, 600), 300, alpha=3) | _all_kinds(torch.float32, "decaying")
    result = _resize(tmp_path, tensors, before, rank=280)
    content = result.path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert result.metadata["sshs_model_hash"] == hashlib.sha256(content[start:]).hexdigest()
    training = {key: text for key, text in result.metadata.items() if key.startswith("ss_")}
    trained = save(result.tensors, training)
    assert len(trained) > 0x100000
    legacy = hashlib.sha256(trained[0x100000:0x110000]).hexdigest()[:8]
    assert result.metadata["sshs_legacy_hash"] == legacy
    assert result.metadata["other"] == before["other"]


@pytest.mark.parametrize(("method", "value"), [("fixed", None), ("sv_fro", 0.9)])
def test_cores_that_are_not_kept_are_computed_again_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: ResizeMethod, value: float | None
) -> None:
    tensors = _all_kinds(torch.float16, "decaying")
    kept = _resize(tmp_path, tensors, method=method, value=value, rank=4).outcome.sha256
    monkeypatch.setattr(resized, "_KEPT_BYTES", 0)
    assert _resize(tmp_path, tensors, method=method, value=value, rank=4).outcome.sha256 == kept


def test_convolutions_may_have_their_own_rank(tmp_path: Path) -> None:
    result = _resize(tmp_path, _all_kinds(torch.float32, "random"), rank=6, conv_rank=2)
    assert _ranks(result.outcome) == {"linear": 6, "one": 6, "conv": 2, "narrow": 6}


@pytest.mark.parametrize("method", ["fixed", "sv_ratio", "sv_cumulative", "sv_fro"])
def test_a_file_is_as_large_as_asked_for_and_no_larger(tmp_path: Path, method: ResizeMethod) -> None:
    tensors = _all_kinds(torch.float16, "decaying")
    whole = _resize(tmp_path, tensors, rank=_RANK)
    limit = whole.outcome.bytes * 0.55
    result = _resize(tmp_path, tensors, method=method, rank=_RANK, target_size_mb=limit / 1e6)
    assert 0.8 * limit <= result.path.stat().st_size <= limit
    assert result.outcome.bytes == result.path.stat().st_size
    if method == "fixed":
        more = max(_ranks(result.outcome).values()) + 1
        assert _resize(tmp_path, tensors, rank=more).outcome.bytes > limit
        return
    value = result.outcome.value
    assert value is not None
    again = _resize(tmp_path, tensors, method=method, rank=_RANK, value=value)
    assert _ranks(again.outcome) == _ranks(result.outcome)
    more_value = min(1.0, value * 1.1) if method != "sv_ratio" else value * 1.5
    assert _resize(tmp_path, tensors, method=method, rank=_RANK, value=more_value).outcome.bytes > limit


def test_a_size_that_cannot_be_reached_is_refused_with_the_least(tmp_path: Path) -> None:
    tensors = _all_kinds(torch.float16, "decaying")
    least = _resize(tmp_path, tensors, rank=1).outcome.bytes
    with pytest.raises(InvalidParams) as refused:
        _resize(tmp_path, tensors, target_size_mb=least / 1e6 - 1e-6)
    assert refused.value.where == "$.params.settings.target_size_mb"
    assert refused.value.details == {"least_mb": least / 1e6}


def test_a_size_that_is_enough_for_all_changes_nothing(tmp_path: Path) -> None:
    tensors = _all_kinds(torch.float16, "decaying")
    result = _resize(tmp_path, tensors, rank=5, target_size_mb=50)
    assert set(_ranks(result.outcome).values()) == {5}


def test_loha_and_lokr_become_loras_on_request_with_their_error(tmp_path: Path) -> None:
    block = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn"
    tensors = (
        adapters.loha(f"{block}1_to_q", (40, 36), 3, alpha=1, dtype=torch.float16)
        | adapters.loha("lora_unet_core", (40, 8, 3, 3), 3, tucker=True)
        | adapters.lokr(f"{block}2_to_k", (4, 3), (10, 12), alpha=1)
        | adapters.lokr(f"{block}2_to_v", (4, 3), (10, 12), rank=2, alpha=1)
    )
    result = _resize(tmp_path, tensors, _SDXL, rank=5, convert=True)
    assert result.outcome.unchanged == []
    for each in result.outcome.modules:
        dense = adapters.dense(tensors, each.name)
        found = adapters.dense(result.tensors, each.name)
        best = _distance(_cut(dense, 5), dense)
        assert _distance(found, dense) <= best * 1.01 + 1e-3, each.name
        assert each.error == pytest.approx(_distance(found, dense), rel=0.05, abs=1e-3)
        assert each.sum_retained is None and each.new_rank == 5
        assert found.shape == dense.shape
    assert result.tensors[f"{block}1_to_q.lora_up.weight"].dtype == torch.float16
    assert all(".hada" not in key and ".lokr" not in key for key in result.tensors)


def test_a_rank_that_is_enough_converts_exactly(tmp_path: Path) -> None:
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = adapters.lokr(name, (2, 2), (10, 12), rank=2, alpha=1)
    for rule in ("proportional", "rank", "one"):
        result = _resize(tmp_path, tensors, _SDXL, rank=4, convert=True, alpha=rule, dtype="fp32")
        dense = adapters.dense(tensors, name)
        assert _distance(adapters.dense(result.tensors, name), dense) <= 1e-5


def test_what_may_be_a_convolution_or_not_is_kept_and_said_to_be(tmp_path: Path) -> None:
    name = "lora_unet_nowhere_conv"
    tensors = adapters.loha(name, (20, 12, 3, 3), 3) | adapters.lora("lora_unet_a", (8, 6), 2)
    result = _resize(tmp_path, tensors, rank=4, convert=True)
    for key, tensor in tensors.items():
        assert not key.startswith(name) or torch.equal(result.tensors[key], tensor)
    assert result.outcome.unchanged == [name]
    assert any(name in each and "convolutions" in each for each in result.outcome.warnings)


def test_a_convolution_of_another_width_has_the_kernel_of_its_place_and_its_rank(tmp_path: Path) -> None:
    name = "lora_unet_input_blocks_1_0_in_layers_2"
    tensors = adapters.loha(name, (20, 12, 3, 3), 3)
    result = _resize(tmp_path, tensors, _SDXL, rank=8, conv_rank=2, convert=True)
    assert result.tensors[f"{name}.lora_down.weight"].shape == (2, 12, 3, 3)


@pytest.mark.parametrize(("dtype", "least"), [(torch.bfloat16, 1e-3), (torch.float8_e4m3fn, 1e-2)])
def test_what_the_type_of_a_conversion_rounds_is_in_its_error(
    tmp_path: Path, dtype: torch.dtype, least: float
) -> None:
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = {key: (each * 5).to(dtype) for key, each in adapters.loha(name, (40, 36), 3).items()}
    result = _resize(tmp_path, tensors, _SDXL, rank=40, convert=True)
    found = _distance(adapters.dense(result.tensors, name), adapters.dense(tensors, name))
    assert found > least
    assert result.outcome.modules[0].error == pytest.approx(found, rel=0.15)
    assert result.outcome.error == pytest.approx(found, rel=0.15)


def test_whole_numbers_are_not_converted(tmp_path: Path) -> None:
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = {key: (each * 99).to(torch.int8) for key, each in adapters.loha(name, (40, 36), 3).items()}
    with pytest.raises(WeightsUnsupported, match=r"hada.*I8"):
        _resize(tmp_path, tensors, _SDXL, rank=4, convert=True)
    assert torch.equal(
        _resize(tmp_path, tensors, _SDXL).tensors[f"{name}.hada_w1_a"], tensors[f"{name}.hada_w1_a"]
    )


def test_a_conversion_beyond_any_range_is_refused_by_name(tmp_path: Path) -> None:
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = {key: tensor * 1e20 for key, tensor in adapters.loha(name, (40, 36), 3).items()}
    with pytest.raises(WeightsUnsupported, match="beyond the range") as refused:
        _resize(tmp_path, tensors, _SDXL, rank=4, convert=True)
    assert refused.value.details["key"].startswith(name)
    assert not (tmp_path / "out.safetensors").exists()


def test_products_beyond_single_precision_keep_their_digits(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, spectrum="decaying", scale=1e24)
    result = _resize(tmp_path, tensors, rank=4)
    assert all(bool(tensor.isfinite().all()) for tensor in result.tensors.values())
    best = _cut(adapters.dense(tensors, "lora_unet_a"), 4)
    assert _distance(adapters.dense(result.tensors, "lora_unet_a"), best) <= 1e-6


def test_an_alpha_of_a_whole_number_is_one_of_the_factors_type(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (8, 6), 4) | {"lora_unet_a.alpha": torch.tensor(3)}
    result = _resize(tmp_path, tensors, rank=2, alpha="proportional")
    assert result.tensors["lora_unet_a.alpha"].dtype == torch.float32
    best = _cut(adapters.dense(tensors, "lora_unet_a"), 2)
    assert _distance(adapters.dense(result.tensors, "lora_unet_a"), best) <= 1e-6


def test_magnitudes_of_what_is_converted_are_said_to_be_kept(tmp_path: Path) -> None:
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = adapters.loha(name, (40, 36), 3) | {f"{name}.dora_scale": torch.rand(40, 1)}
    result = _resize(tmp_path, tensors, _SDXL, rank=4, convert=True)
    assert torch.equal(result.tensors[f"{name}.dora_scale"], tensors[f"{name}.dora_scale"])
    assert any("DoRA" in each and name in each for each in result.outcome.warnings)


@pytest.mark.parametrize("phase", ["analyse", "write"])
def test_cancel_leaves_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    source = adapters.write(tmp_path / "in.safetensors", _all_kinds(torch.float32, "random"))
    output = FileOutput(file=str(tmp_path / "out.safetensors"))
    params = ResizeParams(
        job_id="a", inputs=FileInput(file=str(source)), outputs=output, settings=ResizeSettings(rank=2)
    )
    running = job(tmp_path)
    said: list[tuple[str, int]] = []

    def progress(name: str, step: int, *_: Any, **__: Any) -> None:
        said.append((name, step))
        if said[-1] == (phase, 1):
            request_cancel(running, "graceful")

    monkeypatch.setattr(running, "progress", progress)
    with pytest.raises(JobCanceled), Surgery(running, output) as surgery:
        resize(params, surgery)
    assert said[-1] == (phase, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_as_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = _all_kinds(torch.float16, "decaying")
    on_gpu = _resize(tmp_path, tensors, method="sv_fro", value=0.9, rank=9, dtype="fp32")
    monkeypatch.setattr(Surgery, "device", torch.device("cpu"))
    on_cpu = _resize(tmp_path, tensors, method="sv_fro", value=0.9, rank=9, dtype="fp32")
    assert _ranks(on_gpu.outcome) == _ranks(on_cpu.outcome)
    for name in adapters.modules_of(tensors):
        assert _distance(adapters.dense(on_gpu.tensors, name), adapters.dense(on_cpu.tensors, name)) <= 1e-6


@pytest.mark.parametrize("wish", [{"blocks": {"IN04": 2}}, {"naming": "peft"}])
def test_what_needs_the_family_is_refused_where_it_is_unknown(tmp_path: Path, wish: dict[str, Any]) -> None:
    tensors = adapters.lora("lora_unet_nothing_known", (8, 6), 4)
    with pytest.raises(WeightsUnknown, match=next(iter(wish))) as refused:
        _resize(tmp_path, tensors, **wish)
    assert refused.value.where == str(tmp_path / "in.safetensors")


def _sd15(rank: int, **more: Any) -> Tensors:
    """A few modules of SD1.5, of their true shapes."""
    shapes = {
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (768, 768),
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (320, 320),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (1280, 768),
        "lora_unet_mid_block_attentions_0_proj_in": (1280, 1280, 1, 1),
    }
    tensors: Tensors = {}
    for name, shape in shapes.items():
        tensors |= adapters.lora(name, shape, rank, dtype=torch.float16, **more)
    return tensors


def test_blocks_and_components_have_their_own_ranks(tmp_path: Path) -> None:
    result = _resize(tmp_path, _sd15(8, alpha=2), rank=5, blocks={"unet": 4, "M00": 2, "te1": 0})
    assert sorted(_ranks(result.outcome).values()) == [2, 2, 4]
    assert not any(key.startswith("lora_te") for key in result.tensors)
    assert any("left out" in each and "lora_te" in each for each in result.outcome.warnings)


def test_a_block_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match=r"`IN99`.*M00") as refused:
        _resize(tmp_path, _sd15(4), blocks={"IN99": 2})
    assert refused.value.where == "$.params.settings.blocks"
    assert {"unet", "te1", "IN04", "M00"} <= set(refused.value.details["known"])


def test_a_block_wins_over_its_component_and_both_over_convolutions(tmp_path: Path) -> None:
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = _sd15(8) | adapters.lora(conv, (320, 320, 3, 3), 8)
    for blocks, rank in (({}, 1), ({"unet": 3}, 3), ({"unet": 3, "IN01": 2}, 2)):
        result = _resize(tmp_path, tensors, rank=5, conv_rank=1, blocks=blocks)
        assert _ranks(result.outcome)[conv.removeprefix("lora_unet_")] == rank


@pytest.mark.parametrize("rank", [-1, 5000])
def test_a_rank_of_a_block_has_bounds(tmp_path: Path, rank: int) -> None:
    with pytest.raises(InvalidParams, match="M00"):
        _resize(tmp_path, _sd15(4), blocks={"M00": rank})


def test_names_are_translated_there_and_back(tmp_path: Path) -> None:
    tensors = _sd15(4, alpha=2)
    names = {
        "unet.mid_block.attentions.0.proj_in": "lora_unet_mid_block_attentions_0_proj_in",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
        ),
    }
    peft = _resize(tmp_path, tensors, rank=4, naming="peft", dtype="fp32")
    for name, old in names.items():
        found = adapters.dense(peft.tensors, name)
        assert _distance(found, adapters.dense(tensors, old)) <= 1e-6
    assert {key.rpartition(".lora_")[2] for key in peft.tensors} == {"A.weight", "B.weight"}
    kohya = _resize(tmp_path, peft.tensors, rank=4, naming="kohya")
    assert kohya.tensors.keys() == tensors.keys()
    for name in adapters.modules_of(tensors):
        assert _distance(adapters.dense(kohya.tensors, name), adapters.dense(tensors, name)) <= 1e-6


#: FLUX at a forty-eighth of its width, so that rows are split and fused as in the published model.
_WIDTH = 64
_FLUX = {"modelspec.architecture": "flux-1-dev/lora"}


def _flux(rank: int = 4) -> Tensors:
    shapes = {
        "lora_unet_double_blocks_0_img_attn_qkv": (3 * _WIDTH, _WIDTH),
        "lora_unet_double_blocks_0_img_attn_proj": (_WIDTH, _WIDTH),
        "lora_unet_single_blocks_0_linear1": (7 * _WIDTH, _WIDTH),
        "lora_unet_final_layer_adaLN_modulation_1": (2 * _WIDTH, _WIDTH),
    }
    tensors: Tensors = {}
    for number, (name, shape) in enumerate(shapes.items()):
        tensors |= adapters.lora(name, shape, rank, alpha=2, seed=number)
    return tensors


def test_fused_modules_are_split_and_their_halves_swapped(tmp_path: Path) -> None:
    tensors = _flux()
    result = _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft")
    fused = adapters.dense(tensors, "lora_unet_double_blocks_0_img_attn_qkv")
    for number, name in enumerate(("to_q", "to_k", "to_v")):
        found = adapters.dense(result.tensors, f"transformer.transformer_blocks.0.attn.{name}")
        assert _distance(found, fused[number * _WIDTH : (number + 1) * _WIDTH]) <= 1e-6
    linear = adapters.dense(tensors, "lora_unet_single_blocks_0_linear1")
    found = adapters.dense(result.tensors, "transformer.single_transformer_blocks.0.proj_mlp")
    assert _distance(found, linear[3 * _WIDTH :]) <= 1e-6
    last = adapters.dense(tensors, "lora_unet_final_layer_adaLN_modulation_1")
    swapped = torch.cat([last[_WIDTH:], last[:_WIDTH]])
    assert _distance(adapters.dense(result.tensors, "transformer.norm_out.linear"), swapped) <= 1e-6


def test_split_modules_are_fused_and_cut_to_what_they_share(tmp_path: Path) -> None:
    tensors = _flux()
    split = _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft")
    for rank in (4, 64):
        fused = _resize(tmp_path, split.tensors, _FLUX, rank=rank, naming="kohya")
        assert fused.tensors.keys() == tensors.keys()
        for name in adapters.modules_of(tensors):
            assert _distance(adapters.dense(fused.tensors, name), adapters.dense(tensors, name)) <= 1e-6
    old = {each.name: each.old_rank for each in fused.outcome.modules}
    assert old["lora_unet_double_blocks_0_img_attn_qkv"] == 12


def test_parts_have_only_the_directions_that_are_theirs(tmp_path: Path) -> None:
    tensors = _flux()
    split = _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft").tensors
    split["transformer.transformer_blocks.0.attn.to_v.lora_B.weight"].zero_()
    fused = _resize(tmp_path, split, _FLUX, rank=64, naming="kohya").tensors
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    # As programs fuse them: block by block, not cut to what they share.
    fused[f"{name}.lora_up.weight"] = torch.block_diag(  # type: ignore[no-untyped-call]
        *(split[f"transformer.transformer_blocks.0.attn.to_{part}.lora_B.weight"] for part in "qkv")
    )
    fused[f"{name}.lora_down.weight"] = torch.cat(
        [split[f"transformer.transformer_blocks.0.attn.to_{part}.lora_A.weight"] for part in "qkv"]
    )
    fused[f"{name}.alpha"] = torch.tensor(12.0)
    again = _resize(tmp_path, fused, _FLUX, rank=64, naming="peft").tensors
    for part, rank in (("to_q", 4), ("to_k", 4), ("to_v", 1)):
        part = f"transformer.transformer_blocks.0.attn.{part}"
        assert again[f"{part}.lora_A.weight"].shape[0] == rank
        expected = adapters.dense(split, part)
        assert float((adapters.dense(again, part) - expected).norm()) <= 1e-6 * float(expected.norm())


def test_a_part_that_is_missing_counts_as_zero_where_modules_are_fused(tmp_path: Path) -> None:
    tensors = _flux()
    split = _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft").tensors
    split = {key: tensor for key, tensor in split.items() if ".to_k." not in key}
    split["transformer.transformer_blocks.0.attn.to_q.alpha"] = torch.tensor(8.0)
    fused = _resize(tmp_path, split, _FLUX, rank=64, naming="kohya")
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    expected = adapters.dense(tensors, name)
    expected[:_WIDTH] *= 2
    expected[_WIDTH : 2 * _WIDTH] = 0
    assert _distance(adapters.dense(fused.tensors, name), expected) <= 1e-6


def test_magnitudes_of_the_rows_are_split_and_fused_with_them(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = _flux() | adapters.dora(name, (3 * _WIDTH, _WIDTH), 4, alpha=2)
    split = _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft").tensors
    magnitudes = tensors[f"{name}.dora_scale"]
    found = split["transformer.transformer_blocks.0.attn.to_k.lora_magnitude_vector"]
    assert torch.equal(found, magnitudes[_WIDTH : 2 * _WIDTH, 0])
    fused = _resize(tmp_path, split, _FLUX, rank=4, naming="kohya").tensors
    assert torch.equal(fused[f"{name}.dora_scale"], magnitudes)


def test_magnitudes_that_do_not_go_by_rows_are_not_split(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = _flux() | {f"{name}.dora_scale": torch.ones(1, _WIDTH)}
    with pytest.raises(WeightsUnsupported, match=name):
        _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft")


def test_a_module_without_factors_is_not_split(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = {key: tensor for key, tensor in _flux().items() if not key.startswith(name)}
    tensors |= adapters.full(name, (3 * _WIDTH, _WIDTH))
    with pytest.raises(WeightsUnsupported, match=name) as refused:
        _resize(tmp_path, tensors, _FLUX, rank=4, naming="peft")
    assert refused.value.details == {"modules": [name]}


def test_a_module_that_the_other_naming_has_no_name_for_is_refused_by_name(tmp_path: Path) -> None:
    names = ["lora_unet_nothing", "lora_unet_nothing_known"]
    tensors = _sd15(4, alpha=2)
    for name in names:
        tensors |= adapters.lora(name, (8, 6), 4, alpha=2)
    with pytest.raises(WeightsUnsupported, match="lora_unet_nothing_known") as refused:
        _resize(tmp_path, tensors, naming="peft")
    assert refused.value.details == {"modules": names}
    assert _resize(tmp_path, tensors, naming="kohya", rank=2).tensors.keys() == tensors.keys()


def test_the_kernel_of_a_converted_convolution_is_known_from_the_model(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = adapters.loha(name, (320, 320, 3, 3), 2) | _sd15(4)
    result = _resize(tmp_path, tensors, rank=4, convert=True)
    assert result.tensors[f"{name}.lora_down.weight"].shape == (4, 320, 3, 3)
    assert result.tensors[f"{name}.lora_up.weight"].shape == (320, 4, 1, 1)
    found = adapters.dense(result.tensors, name)
    assert _distance(found, adapters.dense(tensors, name, (320, 320, 3, 3))) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_stay_eight_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = adapters.lora("lora_unet_a", (48, 40), 8, dtype=dtype, scale=4.0, spectrum="decaying")
    result = _resize(tmp_path, tensors, rank=4)
    assert {tensor.dtype for key, tensor in result.tensors.items() if "alpha" not in key} == {dtype}
    best = _cut(adapters.dense(tensors, "lora_unet_a"), 4)
    assert _distance(adapters.dense(result.tensors, "lora_unet_a"), best) <= 0.1
    wide = _resize(tmp_path, tensors, rank=4, dtype="fp32")
    assert _distance(adapters.dense(wide.tensors, "lora_unet_a"), best) <= 1e-6


def test_a_module_of_two_types_keeps_what_both_can_hold(tmp_path: Path) -> None:
    name = "lora_unet_a"
    tensors = adapters.lora(name, (48, 40), 8, alpha=0.01, spectrum="decaying", scale=0.5)
    tensors[f"{name}.lora_up.weight"] = (tensors[f"{name}.lora_up.weight"] * 1e-4).half()
    down = f"{name}.lora_down.weight"
    tensors[down] = tensors[down].to(torch.float8_e4m3fn)
    result = _resize(tmp_path, tensors, rank=4)
    assert result.tensors[down].dtype == torch.float8_e4m3fn
    best = _cut(adapters.dense(tensors, name), 4)
    assert _distance(adapters.dense(result.tensors, name), best) <= 0.06


def test_factors_of_whole_numbers_are_refused_by_name(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_a", (8, 6), 4)
    tensors["lora_unet_a.lora_up.weight"] = torch.ones(8, 4, dtype=torch.int8)
    with pytest.raises(WeightsUnsupported, match="lora_unet_a.lora_up.weight"):
        _resize(tmp_path, tensors)


def test_a_file_with_nothing_to_resize_is_copied_and_says_nothing_new(tmp_path: Path) -> None:
    tensors = adapters.full("lora_unet_a", (8, 6))
    result = _resize(tmp_path, tensors, {"ss_network_dim": "4"})
    assert torch.equal(result.tensors["lora_unet_a.diff"], tensors["lora_unet_a.diff"])
    assert result.metadata["ss_network_dim"] == "4"
    assert (result.outcome.error, result.outcome.fro_retained, result.outcome.modules) == (0, 1, [])
