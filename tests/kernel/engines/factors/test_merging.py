"""LoRAs into one: what every method promises, against dense sums in float64."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from contract.errors import (
    InvalidParams,
    JobCanceled,
    LorakeetError,
    WeightsIncomplete,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnknown,
    WeightsUnsupported,
)
from contract.methods.merge import LoraMerge, LoraMethod, WeightedLora
from contract.methods.weights import WeightsFile
from kernel.engines.factors.merging import METHODS, merge_loras
from kernel.jobs import request_cancel
from kernel.surgery import Surgery
from tests.builders import adapters
from tests.builders.adapters import PEFT, Tensors
from tests.builders.surgery import surgery
from tests.kernel.engines.factors.merges import (
    CONV,
    LINEAR,
    METADATA,
    OTHER,
    POINT,
    SHAPES,
    TEXT,
    exact_sum,
    merge,
    relative,
    some_lora,
)

RULES = ["proportional", "rank", "one"]
FULL: dict[str, dict[str, Any]] = {"svd": {"rank": 256}, "dare": {"rank": 256, "density": 1.0}}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_concat_is_the_exact_sum(tmp_path: Path, rule: str, dtype: torch.dtype) -> None:
    loras = [
        (some_lora(1, 8, dtype=dtype), 0.7),
        (some_lora(2, 4, alpha=1.0, dtype=dtype), -0.4),
        (some_lora(3, 6, alpha=None, dtype=dtype), 1.3),
    ]
    merged = merge(tmp_path, loras, alpha=rule, dtype="fp32")
    assert merged.outcome.error is None
    for name in SHAPES:
        assert relative(merged.delta(name), exact_sum(loras, name)) < 2e-7
        assert merged.tensors[f"{name}.lora_down.weight"].shape[0] == 18
        alpha = float(merged.tensors[f"{name}.alpha"])
        assert alpha == {"proportional": 9.0, "rank": 18.0, "one": 1.0}[rule]


def test_concat_in_half_precision_rounds_once(tmp_path: Path) -> None:
    loras = [(some_lora(1, 8, dtype=torch.float16), 0.7), (some_lora(2, 4, dtype=torch.float16), 0.3)]
    merged = merge(tmp_path, loras)
    assert {tensor.dtype for tensor in merged.tensors.values()} == {torch.float16}
    for name in SHAPES:
        assert relative(merged.delta(name), exact_sum(loras, name)) < 2**-11
        down = torch.cat([tensors[f"{name}.lora_down.weight"] for tensors, _ in loras])
        assert torch.equal(merged.tensors[f"{name}.lora_down.weight"], down)


def test_the_result_has_the_union_of_the_modules(tmp_path: Path) -> None:
    first, second = some_lora(1, 4, [LINEAR, TEXT]), some_lora(2, 4, [LINEAR, CONV])
    for method in METHODS:
        merged = merge(tmp_path, [(first, 0.5), (second, 0.5)], method)
        assert adapters.modules_of(merged.tensors) == sorted([LINEAR, TEXT, CONV])
        assert merged.outcome.merged == 3
    merged = merge(tmp_path, [(first, 0.5), (second, 0.25)])
    assert relative(merged.delta(TEXT), 0.5 * adapters.dense(first, TEXT)) < 1e-7
    assert relative(merged.delta(CONV), 0.25 * adapters.dense(second, CONV)) < 1e-7


@pytest.mark.parametrize("method", ["concat", "add", "svd", "dare"])
def test_a_lora_with_itself_is_itself(tmp_path: Path, method: str) -> None:
    lora = some_lora(1, 8)
    merged = merge(tmp_path, [(lora, 0.5), (lora, 0.5)], method, **FULL.get(method, {}))
    for name in SHAPES:
        assert relative(merged.delta(name), adapters.dense(lora, name)) < 1e-6
    assert merged.outcome.error is None or merged.outcome.error < 1e-6


def test_add_of_a_lora_with_itself_is_the_same_tensors(tmp_path: Path) -> None:
    lora = some_lora(1, 8, dtype=torch.float16)
    merged = merge(tmp_path, [(lora, 0.5), (lora, 0.5)], "add")
    assert merged.tensors.keys() == lora.keys()
    assert all(torch.equal(merged.tensors[key], tensor) for key, tensor in lora.items())


def test_ties_of_a_lora_with_itself_is_their_mean(tmp_path: Path) -> None:
    lora = some_lora(1, 8)
    merged = merge(tmp_path, [(lora, 1.0), (lora, 1.0)], "ties", rank=256, density=1.0)
    for name in SHAPES:
        assert relative(merged.delta(name), adapters.dense(lora, name)) < 1e-6


@pytest.mark.parametrize("shared", ["up", "down"])
@pytest.mark.parametrize("weights", [(0.7, 0.5), (0.7, -0.2), (-0.7, -0.5)])
def test_add_is_exact_where_loras_share_a_factor(
    tmp_path: Path, shared: str, weights: tuple[float, float]
) -> None:
    first, second = some_lora(1, 8, alpha=8.0), some_lora(2, 8, alpha=2.0)
    second |= {key: tensor for key, tensor in first.items() if f"lora_{shared}" in key}
    loras = [(first, weights[0]), (second, weights[1])]
    merged = merge(tmp_path, loras, "add")
    for name in SHAPES:
        assert relative(merged.delta(name), exact_sum(loras, name)) < 1e-6
        assert merged.error(name) < 1e-6


@pytest.mark.parametrize("estimated", [False, True])
def test_add_states_its_error_against_the_exact_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimated: bool
) -> None:
    monkeypatch.setattr("kernel.engines.factors.sums._EXACT_WORK", 0 if estimated else 1e12)
    loras = [(some_lora(1, 8), 0.6), (some_lora(2, 4, alpha=4.0), 0.9), (some_lora(3, 8, [CONV]), -0.5)]
    merged = merge(tmp_path, loras, "add")
    assert merged.outcome.error_is_estimate is estimated
    errors = [merged.delta(name) - exact_sum(loras, name) for name in SHAPES]
    sums = [exact_sum(loras, name) for name in SHAPES]
    tolerance = 0.35 if estimated else 1e-5
    for name, error, whole in zip(SHAPES, errors, sums, strict=True):
        assert merged.error(name) == pytest.approx(float(error.norm() / whole.norm()), rel=tolerance)
    total = math.sqrt(sum(float(each.square().sum()) for each in errors))
    total /= math.sqrt(sum(float(each.square().sum()) for each in sums))
    assert merged.outcome.error == pytest.approx(total, rel=tolerance / 2)


def test_add_fills_lower_ranks_up(tmp_path: Path) -> None:
    merged = merge(tmp_path, [(some_lora(1, 8, [LINEAR]), 0.5), (some_lora(2, 3, [LINEAR]), 0.5)], "add")
    assert merged.tensors[f"{LINEAR}.lora_down.weight"].shape[0] == 8


@pytest.mark.parametrize("spectrum", ["random", "decaying"])
def test_svd_is_the_best_of_its_rank(tmp_path: Path, spectrum: Any) -> None:
    loras = [(some_lora(1, 8, spectrum=spectrum), 0.7), (some_lora(2, 6, spectrum=spectrum), -0.4)]
    merged = merge(tmp_path, loras, "svd", rank=5, conv_rank=3)
    assert not merged.outcome.error_is_estimate
    for name in SHAPES:
        rank = 3 if name == CONV else 5
        expected = exact_sum(loras, name).flatten(1)
        left, values, right = torch.linalg.svd(expected, full_matrices=False)
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        assert relative(merged.delta(name).flatten(1), best) < 1e-6
        assert merged.error(name) == pytest.approx(relative(best, expected), rel=1e-6)
        assert merged.tensors[f"{name}.lora_down.weight"].shape[0] == rank


def test_svd_never_has_the_sum_as_a_whole(tmp_path: Path) -> None:
    """Of 600,000 rows and columns it would have 1.4 terabytes."""
    name, shape = "lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_2", (600_000, 600_000)
    loras = [(adapters.lora(name, shape, 1, seed=seed, scale=1e-2), 0.5) for seed in (1, 2)]
    merged = merge(tmp_path, loras, "svd", rank=1)
    assert merged.tensors[f"{name}.lora_up.weight"].shape == (600_000, 1)
    up = torch.cat([0.5 * tensors[f"{name}.lora_up.weight"].double() for tensors, _ in loras], dim=1)
    down = torch.cat([tensors[f"{name}.lora_down.weight"].double() for tensors, _ in loras])
    values = torch.linalg.svdvals(torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T)
    assert merged.error(name) == pytest.approx(float(values[1] / values.norm()), rel=1e-6)


@pytest.mark.parametrize("size", [0.1, 300.0])
def test_what_the_type_rounds_is_in_the_error(tmp_path: Path, size: float) -> None:
    loras = [(some_lora(1, 4, scale=size), 0.7), (some_lora(2, 4), 0.5)]
    merged = merge(tmp_path, loras, "svd", dtype="fp16", **FULL["svd"])
    for name in SHAPES:
        found = relative(merged.delta(name), exact_sum(loras, name))
        assert found > 1e-4
        assert merged.error(name) == pytest.approx(found, rel=0.15)


def test_svd_at_full_rank_is_the_exact_sum(tmp_path: Path) -> None:
    loras = [(some_lora(1, 8), 0.7), (some_lora(2, 4), -0.4)]
    merged = merge(tmp_path, loras, "svd", rank=256)
    assert merged.outcome.error is not None
    assert merged.outcome.error < 1e-7
    for name in SHAPES:
        assert relative(merged.delta(name), exact_sum(loras, name)) < 1e-6
        # More than the ranks have in sum there is not.
        assert merged.tensors[f"{name}.lora_down.weight"].shape[0] == 12


def test_without_a_rank_it_is_the_highest_of_the_inputs(tmp_path: Path) -> None:
    loras = [(some_lora(1, 8), 0.7), (some_lora(2, 4), 0.4)]
    for method in ("svd", "ties", "dare"):
        assert {module.rank for module in merge(tmp_path, loras, method).outcome.modules} == {8}


def test_rank_above_the_size_of_the_weight(tmp_path: Path) -> None:
    loras = [(some_lora(1, 70, [POINT, LINEAR]), 0.7), (some_lora(2, 30, [POINT, LINEAR]), 0.4)]
    for method in ("concat", "svd"):
        merged = merge(tmp_path, loras, method, **FULL.get(method, {}))
        for name in (POINT, LINEAR):
            assert relative(merged.delta(name), exact_sum(loras, name)) < 1e-6


@pytest.mark.parametrize("method", list(METHODS))
def test_modules_of_zeros_stay_zero(tmp_path: Path, method: str) -> None:
    zero = some_lora(1, 4, spectrum="zero")
    merged = merge(tmp_path, [(zero, 0.5), (zero, 0.5)], method)
    assert all(float(merged.delta(name).norm()) == 0 for name in SHAPES)
    assert all(torch.isfinite(tensor).all() for tensor in merged.tensors.values())
    assert not merged.outcome.error
    other = some_lora(2, 4)
    with_other = merge(tmp_path, [(zero, 0.5), (other, 0.0)], method)
    assert all(float(with_other.delta(name).norm()) == 0 for name in SHAPES)


@pytest.mark.parametrize("method", list(METHODS))
def test_two_runs_write_the_same_bytes(tmp_path: Path, method: str) -> None:
    loras = [(some_lora(1, 8), 0.7), (some_lora(2, 4), -0.4)]
    first = merge(tmp_path, loras, method)
    second = merge(tmp_path, loras, method)
    assert first.outcome.sha256 == second.outcome.sha256


def test_weights_of_blocks_win_over_those_of_components(tmp_path: Path) -> None:
    lora = some_lora(1, 4)
    fields = {"weight": 0.5, "components": {"unet": 0.25, "te2": -1.0}, "blocks": {"IN04": 2.0}}
    merged = merge(tmp_path, [(lora, fields)])
    for name, weight in ((LINEAR, 2.0), (OTHER, 0.25), (POINT, 2.0), (CONV, 0.25), (TEXT, -1.0)):
        assert relative(merged.delta(name), weight * adapters.dense(lora, name)) < 1e-6


@pytest.mark.parametrize("where", ["components", "blocks"])
def test_weights_of_what_the_model_has_not_are_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        merge(tmp_path, [(some_lora(1, 4), {where: {"IN99": 1.0}})])
    assert refused.value.where == f"$.params.settings.loras[0].{where}"


def test_alpha_without_a_tensor_stays_away_in_names_with_dots(tmp_path: Path) -> None:
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    loras = [
        (adapters.lora(name, SHAPES[LINEAR], 4, pair=PEFT, seed=1), 0.7),
        (adapters.lora(name, SHAPES[LINEAR], 2, pair=PEFT, seed=2), 0.6),
    ]
    merged = merge(tmp_path, loras)
    assert merged.tensors.keys() == {f"{name}.lora_A.weight", f"{name}.lora_B.weight"}
    expected = sum(weight * adapters.dense(tensors, name) for tensors, weight in loras)
    assert isinstance(expected, torch.Tensor)
    assert relative(merged.delta(name), expected) < 1e-6


def test_inputs_of_different_naming_are_united(tmp_path: Path) -> None:
    dotted = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    kohya, peft = some_lora(1, 4, [LINEAR]), adapters.lora(dotted, SHAPES[LINEAR], 3, pair=PEFT, seed=9)
    expected = 0.7 * adapters.dense(kohya, LINEAR) + 0.5 * adapters.dense(peft, dotted)
    merged = merge(tmp_path, [(kohya, 0.7), (peft, 0.5)])
    assert adapters.modules_of(merged.tensors) == [LINEAR]
    assert relative(merged.delta(LINEAR), expected) < 1e-6
    turned = merge(tmp_path, [(kohya, 0.7), (peft, 0.5)], naming="peft")
    assert adapters.modules_of(turned.tensors) == [dotted]
    assert relative(turned.delta(dotted), expected) < 1e-6


def test_numbers_beyond_half_precision_share_their_powers(tmp_path: Path) -> None:
    lora = some_lora(1, 4, [LINEAR], dtype=torch.float16, alpha=4.0)
    lora[f"{LINEAR}.lora_up.weight"] *= 1e5
    merged = merge(tmp_path, [(lora, 50.0)])
    assert all(tensor.dtype == torch.float16 for tensor in merged.tensors.values())
    assert relative(merged.delta(LINEAR), 50 * adapters.dense(lora, LINEAR)) < 1e-3


def test_small_weights_lose_no_digits_in_half_precision(tmp_path: Path) -> None:
    lora = some_lora(1, 4, [LINEAR], dtype=torch.float16, alpha=4.0)
    merged = merge(tmp_path, [(lora, 1e-4)])
    assert relative(merged.delta(LINEAR), 1e-4 * adapters.dense(lora, LINEAR)) < 1e-3


def test_what_half_precision_cannot_hold_at_all_is_refused(tmp_path: Path) -> None:
    lora = {key: tensor * 4e5 if "alpha" not in key else tensor for key, tensor in some_lora(1, 4).items()}
    for method in ("concat", "add", "svd"):
        with pytest.raises(WeightsUnsupported, match="fp16"):
            merge(tmp_path, [(lora, 90.0)], method, dtype="fp16")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, method: str, bad: float) -> None:
    lora = some_lora(1, 4)
    lora[f"{CONV}.lora_up.weight"][3, 1] = bad
    with pytest.raises(WeightsNotFinite) as refused:
        merge(tmp_path, [(some_lora(2, 4), 0.5), (lora, 0.5)], method)
    assert refused.value.where == str(tmp_path / "1.safetensors")
    assert refused.value.details["key"] == f"{CONV}.lora_up.weight"
    assert not (tmp_path / "out.safetensors").exists()


def test_products_beyond_any_range_are_refused(tmp_path: Path) -> None:
    lora = some_lora(1, 4, scale=1e25)
    for method in ("svd", "ties", "dare"):
        with pytest.raises(WeightsUnsupported, match="range"):
            merge(tmp_path, [(lora, 1.0), (adapters.loha(LINEAR, SHAPES[LINEAR], 2), 1.0)], method)


def test_shapes_that_differ_are_refused_with_both_files(tmp_path: Path) -> None:
    other = some_lora(2, 4) | adapters.lora(LINEAR, (48, 32), 4, alpha=4)
    with pytest.raises(WeightsMismatch) as refused:
        merge(tmp_path, [(some_lora(1, 4), 0.5), (other, 0.5)])
    assert refused.value.details["files"] == [str(tmp_path / f"{index}.safetensors") for index in (0, 1)]
    assert LINEAR in str(refused.value)


def test_kernels_that_differ_are_refused(tmp_path: Path) -> None:
    other = some_lora(2, 4) | adapters.lora(CONV, (20, 12, 1, 1), 4, alpha=4)
    with pytest.raises(WeightsMismatch):
        merge(tmp_path, [(some_lora(1, 4), 0.5), (other, 0.5)])


def test_a_point_convolution_fits_a_linear_layer(tmp_path: Path) -> None:
    linear = adapters.lora(POINT, SHAPES[POINT][:2], 4, alpha=4, seed=7)
    point = some_lora(1, 4, [POINT, LINEAR])
    merged = merge(tmp_path, [(linear, 0.5), (point, 0.5)])
    expected = 0.5 * (adapters.dense(linear, POINT)[..., None, None] + adapters.dense(point, POINT))
    assert relative(merged.delta(POINT), expected) < 1e-6


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    lora = some_lora(1, 4)
    del lora[f"{TEXT}.lora_up.weight"]
    with pytest.raises(WeightsIncomplete) as refused:
        merge(tmp_path, [(lora, 1.0)])
    assert refused.value.where == str(tmp_path / "0.safetensors")


def test_families_that_differ_are_refused(tmp_path: Path) -> None:
    sd15: Tensors = {}
    for index in range(2):
        name = f"lora_te_text_model_encoder_layers_{index}_mlp_fc1"
        sd15 |= adapters.lora(name, (3072, 768), 1, alpha=1)
        name = f"lora_unet_down_blocks_{index}_attentions_0_transformer_blocks_0_attn2_to_k"
        sd15 |= adapters.lora(name, (320 * (index + 1), 768), 1, alpha=1)
    with pytest.raises(WeightsMismatch) as refused:
        merge(tmp_path, [(some_lora(1, 4), 0.5), (sd15, 0.5)], metadata=None)
    assert refused.value.details["families"][-1:] == ["sd15"]


def test_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnknown) as refused:
        merge(tmp_path, [(adapters.lora("somewhere.else", (8, 8), 2, pair=PEFT), 0.5)])
    assert refused.value.where == str(tmp_path / "0.safetensors")


def _other_networks() -> list[Tensors]:
    shape = SHAPES[LINEAR]
    return [
        adapters.loha(LINEAR, shape, 4, alpha=2),
        adapters.lokr(LINEAR, (6, 8), (8, 8), rank=3, alpha=2),
        adapters.full(LINEAR, shape),
    ]


@pytest.mark.parametrize("network", range(3))
def test_networks_without_factors_need_a_method_that_approximates(tmp_path: Path, network: int) -> None:
    other = some_lora(2, 4, [TEXT]) | _other_networks()[network]
    for method in ("concat", "add"):
        with pytest.raises(WeightsUnsupported, match=LINEAR) as refused:
            merge(tmp_path, [(some_lora(1, 4), 0.5), (other, 0.5)], method)
        assert refused.value.hint is not None
        assert "svd" in refused.value.hint
    loras = [(some_lora(1, 4), 0.6), (other, 0.5)]
    merged = merge(tmp_path, loras, "svd", rank=6)
    expected = exact_sum(loras, LINEAR)
    values = torch.linalg.svdvals(expected)
    best = float(values[6:].norm() / values.norm())
    assert merged.error(LINEAR) == pytest.approx(relative(merged.delta(LINEAR), expected), rel=1e-4)
    assert merged.error(LINEAR) == pytest.approx(best, rel=0.02)


def test_the_kernel_of_a_convolution_is_known_from_its_place(tmp_path: Path) -> None:
    loha = adapters.loha(CONV, SHAPES[CONV], 4, alpha=2)
    merged = merge(tmp_path, [(loha, 0.5)], "svd", rank=64, conv_rank=16)
    assert merged.tensors[f"{CONV}.lora_down.weight"].shape == (16, 12, 3, 3)
    assert relative(merged.delta(CONV), 0.5 * adapters.dense(loha, CONV, SHAPES[CONV])) < 1e-6


@pytest.mark.parametrize("method", ["svd", "ties", "dare"])
def test_what_may_be_a_convolution_or_not_is_refused_by_name(tmp_path: Path, method: str) -> None:
    loha = adapters.loha("lora_unet_nowhere_conv", (20, 12, 3, 3), 4)
    with pytest.raises(WeightsUnsupported, match="lora_unet_nowhere_conv"):
        merge(tmp_path, [(some_lora(1, 4) | loha, 0.5)], method, rank=4)


def test_a_module_by_two_names_is_refused_with_both(tmp_path: Path) -> None:
    dotted = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k"
    twice = some_lora(1, 4) | adapters.lora(dotted, SHAPES[LINEAR], 4)
    for method in METHODS:
        with pytest.raises(WeightsUnsupported, match=LINEAR) as refused:
            merge(tmp_path, [(twice, 0.5)], method)
        assert dotted in str(refused.value)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_dora_is_refused_with_what_to_do(tmp_path: Path, method: str) -> None:
    dora = some_lora(2, 4, [TEXT]) | adapters.dora(LINEAR, SHAPES[LINEAR], 4, alpha=2)
    with pytest.raises(WeightsUnsupported, match="DoRA") as refused:
        merge(tmp_path, [(dora, 1.0)], method)
    assert refused.value.hint == "Bake it into the checkpoint."
    assert refused.value.details["key"].startswith(LINEAR)


def _cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {key: each if key.endswith(".alpha") else each.to(dtype) for key, each in tensors.items()}


def test_what_a_lora_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with_bias = some_lora(1, 4) | {f"{TEXT}.diff_b": torch.ones(56)}
    norm = some_lora(1, 4) | {"lora_unet_input_blocks_1_0_in_layers_0.w_norm": torch.ones(12)}
    whole = _cast(some_lora(1, 4, [TEXT]), torch.int8)
    for other in (with_bias, norm, some_lora(1, 4, [LINEAR]) | whole):
        for method in METHODS:
            with pytest.raises(WeightsUnsupported) as refused:
                merge(tmp_path, [(other, 1.0)], method)
            assert refused.value.where == str(tmp_path / "0.safetensors")
            assert refused.value.details["key"]


def test_eight_bit_floats_are_read(tmp_path: Path) -> None:
    lora = _cast(some_lora(1, 4, alpha=4.0), torch.float8_e4m3fn)
    for method in METHODS:
        merged = merge(tmp_path, [(lora, 1.0)], method, **FULL.get(method, {"density": 1.0}))
        assert {tensor.dtype for tensor in merged.tensors.values()} == {torch.float16}
        for name in SHAPES if method != "ties" else ():
            assert relative(merged.delta(name), adapters.dense(lora, name)) < 2e-3


def test_unknown_keys_are_reported(tmp_path: Path) -> None:
    lora = some_lora(1, 4) | {"something.odd": torch.ones(3)}
    merged = merge(tmp_path, [(lora, 1.0)])
    assert merged.outcome.left_out == ["something.odd"]
    assert merged.outcome.left_out_count == 1
    assert "something.odd" not in merged.tensors


def test_the_metadata_says_what_it_is(tmp_path: Path) -> None:
    merged = merge(tmp_path, [(some_lora(1, 8), 0.7), (some_lora(2, 4), 0.3)])
    with safe_open(merged.path, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "12"
    assert metadata["ss_network_alpha"] == "6"
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert '"concat"' in metadata["lorakeet_recipe"]
    assert str(tmp_path) not in metadata["lorakeet_recipe"]
    assert len(metadata["sshs_model_hash"]) == 64


def test_a_canceled_merge_leaves_nothing(tmp_path: Path) -> None:
    path = adapters.write(tmp_path / "in.safetensors", some_lora(1, 4), METADATA)
    settings = LoraMerge(loras=[WeightedLora(model=WeightsFile(path=str(path)))])
    with surgery(tmp_path) as job:
        request_cancel(job.job, "graceful")
        with pytest.raises(JobCanceled):
            merge_loras(settings, job)
    assert [each.name for each in tmp_path.iterdir()] == ["in.safetensors"]


@pytest.mark.parametrize("method", list(METHODS))
def test_a_wish_to_stop_is_heard_between_two_modules(
    tmp_path: Path, method: LoraMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = adapters.write(tmp_path / "in.safetensors", some_lora(1, 4), METADATA)
    settings = LoraMerge(loras=[WeightedLora(model=WeightsFile(path=str(path)))], method=method)
    heard: list[int] = []
    with surgery(tmp_path) as job:

        def progress(phase: str, done: int, *_: object, **__: object) -> None:
            heard.append(done)
            if done == 2:
                request_cancel(job.job, "graceful")

        monkeypatch.setattr(job.job, "progress", progress)
        with pytest.raises(JobCanceled):
            merge_loras(settings, job)
    assert heard == [0, 1, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["in.safetensors"]


def test_one_lora_alone_takes_its_weight(tmp_path: Path) -> None:
    lora = some_lora(1, 4)
    for method in ("concat", "add", "svd"):
        merged = merge(tmp_path, [(lora, -0.8)], method)
        for name in SHAPES:
            assert relative(merged.delta(name), -0.8 * adapters.dense(lora, name)) < 1e-6


def test_input_files_stay_as_they_are(tmp_path: Path) -> None:
    lora = some_lora(1, 4)
    merge(tmp_path, [(lora, 0.3)])
    read = load_file(tmp_path / "0.safetensors")
    assert all(torch.equal(read[key], tensor) for key, tensor in lora.items())


def test_errors_are_ours(tmp_path: Path) -> None:
    empty = adapters.write(tmp_path / "empty.safetensors", {"x": torch.zeros(2)})
    settings = LoraMerge(loras=[WeightedLora(model=WeightsFile(path=str(empty)))])
    with surgery(tmp_path) as job, pytest.raises(LorakeetError, match="no modules"):
        merge_loras(settings, job)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", list(METHODS))
def test_a_gpu_gives_the_same_as_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    loras = [(some_lora(1, 8, spectrum="decaying"), 0.7), (some_lora(2, 4, spectrum="decaying"), -0.4)]
    on_gpu = merge(tmp_path, loras, method)
    monkeypatch.setattr(Surgery, "device", torch.device("cpu"))
    on_cpu = merge(tmp_path, loras, method)
    for name in SHAPES:
        assert relative(on_gpu.delta(name), on_cpu.delta(name)) < 1e-5
