"""Modules of different naming at the same weight: fused and split, whole and in part."""

from pathlib import Path

import pytest
import torch

from contract.errors import WeightsMismatch, WeightsUnsupported
from tests.builders import adapters
from tests.builders.adapters import PEFT, Tensors
from tests.kernel.engines.factors.merges import merge, relative

WIDTH = 24
QKV = "lora_unet_double_blocks_0_img_attn_qkv"
LINEAR1 = "lora_unet_single_blocks_0_linear1"
FINAL = "transformer.norm_out.linear"
METADATA = {"modelspec.architecture": "flux-1-dev/lora"}


def _split(part: str) -> str:
    return f"transformer.transformer_blocks.0.attn.to_{part}"


def _single(part: str) -> str:
    return f"transformer.single_transformer_blocks.0.{part}"


def _kohya() -> Tensors:
    return adapters.lora(QKV, (3 * WIDTH, WIDTH), 4, alpha=2, seed=1) | adapters.lora(
        LINEAR1, (7 * WIDTH, WIDTH), 4, alpha=2, seed=2
    )


def _peft(parts: str = "qkv") -> Tensors:
    tensors: Tensors = {}
    for index, part in enumerate(parts):
        tensors |= adapters.lora(_split(part), (WIDTH, WIDTH), 3, pair=PEFT, seed=10 + index)
    for index, part in enumerate(("attn.to_q", "proj_mlp")):
        rows = 4 * WIDTH if part == "proj_mlp" else WIDTH
        tensors |= adapters.lora(_single(part), (rows, WIDTH), 3, pair=PEFT, seed=20 + index)
    return tensors


def _fused(tensors: Tensors) -> dict[str, torch.Tensor]:
    """ΔW of the fused weights."""
    zeros = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    parts = [
        adapters.dense(tensors, _split(part)) if f"{_split(part)}.lora_A.weight" in tensors else zeros
        for part in "qkv"
    ]
    single = [adapters.dense(tensors, _single("attn.to_q")), zeros, zeros]
    return {
        QKV: torch.cat(parts),
        LINEAR1: torch.cat([*single, adapters.dense(tensors, _single("proj_mlp"))]),
    }


@pytest.mark.parametrize(("method", "ranks"), [("concat", {13, 10}), ("svd", {24})])
@pytest.mark.parametrize("parts", ["qkv", "qv"])
def test_split_modules_go_into_the_fused_one(
    tmp_path: Path, method: str, ranks: set[int], parts: str
) -> None:
    kohya, peft = _kohya(), _peft(parts)
    settings = {"rank": 24} if method == "svd" else {}
    merged = merge(tmp_path, [(kohya, 0.7), (peft, 0.4)], method, METADATA, **settings)
    assert adapters.modules_of(merged.tensors) == [QKV, LINEAR1]
    for name, delta in _fused(peft).items():
        expected = 0.7 * adapters.dense(kohya, name) + 0.4 * delta
        assert relative(merged.delta(name), expected) < 1e-6
    if parts == "qkv" and method == "concat":
        assert {module.rank for module in merged.outcome.modules} == ranks


def test_a_fused_module_is_split_into_its_parts(tmp_path: Path) -> None:
    kohya, peft = _kohya(), _peft()
    merged = merge(tmp_path, [(peft, 0.4), (kohya, 0.7)], "concat", METADATA)
    names = [_single(part) for part in ("attn.to_k", "attn.to_q", "attn.to_v", "proj_mlp")]
    assert adapters.modules_of(merged.tensors) == sorted([*names, *(_split(part) for part in "qkv")])
    fused = {name: 0.7 * adapters.dense(kohya, name) + 0.4 * delta for name, delta in _fused(peft).items()}
    for index, part in enumerate("qkv"):
        rows = slice(WIDTH * index, WIDTH * (index + 1))
        assert relative(merged.delta(_split(part)), fused[QKV][rows]) < 1e-6
        assert relative(merged.delta(_single(f"attn.to_{part}")), fused[LINEAR1][rows]) < 1e-6
    assert relative(merged.delta(_single("proj_mlp")), fused[LINEAR1][3 * WIDTH :]) < 1e-6


@pytest.mark.parametrize("method", ["concat", "svd"])
def test_parts_have_only_the_directions_that_are_theirs(tmp_path: Path, method: str) -> None:
    peft = _peft()
    fused = merge(tmp_path, [(peft, 1.0)], "concat", METADATA, naming="kohya").tensors
    assert fused[f"{QKV}.lora_down.weight"].shape[0] == 9
    settings = {"rank": 24} if method == "svd" else {}
    parts = merge(tmp_path, [(fused, 1.0)], method, METADATA, naming="peft", **settings)
    for part in "qkv":
        assert parts.tensors[f"{_split(part)}.lora_A.weight"].shape[0] == 3
        assert relative(parts.delta(_split(part)), adapters.dense(peft, _split(part))) < 1e-6
    # What nothing changes keeps one direction of zeros.
    assert parts.tensors[f"{_single('attn.to_k')}.lora_A.weight"].shape[0] == 1
    assert not parts.delta(_single("attn.to_k")).any()


@pytest.mark.parametrize("method", ["add", "ties", "dare"])
def test_every_method_unites_them(tmp_path: Path, method: str) -> None:
    peft = _peft()
    fused = merge(tmp_path, [(peft, 1.0)], "concat", METADATA, naming="kohya")
    settings = {} if method == "add" else {"rank": 24, "density": 1.0}
    half = 1.0 if method == "ties" else 0.5
    merged = merge(tmp_path, [(fused.tensors, half), (peft, half)], method, METADATA, **settings)
    assert adapters.modules_of(merged.tensors) == [QKV, LINEAR1]
    for name, delta in _fused(peft).items():
        assert relative(merged.delta(name), delta) < 1e-6


def test_halves_that_are_swapped_are_swapped_back(tmp_path: Path) -> None:
    final = "lora_unet_final_layer_adaLN_modulation_1"
    peft = _peft() | adapters.lora(FINAL, (2 * WIDTH, WIDTH), 3, pair=PEFT, seed=30)
    kohya = _kohya() | adapters.lora(final, (2 * WIDTH, WIDTH), 3, alpha=3, seed=31)
    shift, scale = adapters.dense(peft, FINAL).chunk(2)
    expected = 0.7 * adapters.dense(kohya, final) + 0.4 * torch.cat([scale, shift])
    merged = merge(tmp_path, [(kohya, 0.7), (peft, 0.4)], "concat", METADATA)
    assert relative(merged.delta(final), expected) < 1e-6
    turned = merge(tmp_path, [(kohya, 0.7), (peft, 0.4)], "concat", METADATA, naming="peft")
    first, second = expected.chunk(2)
    assert relative(turned.delta(FINAL), torch.cat([second, first])) < 1e-6


def test_names_stay_where_the_files_agree(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_something_of_its_own"
    kohya = _kohya() | adapters.lora(name, (8, 8), 2, alpha=2)
    merged = merge(tmp_path, [(kohya, 0.5), (kohya, 0.5)], "concat", METADATA)
    assert name in adapters.modules_of(merged.tensors)


def test_a_module_without_a_name_in_the_output_is_refused(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_something_of_its_own"
    kohya = _kohya() | adapters.lora(name, (8, 8), 2, alpha=2)
    with pytest.raises(WeightsUnsupported, match=name) as refused:
        merge(tmp_path, [(kohya, 0.5)], "concat", METADATA, naming="peft")
    assert refused.value.where == str(tmp_path / "0.safetensors")
    assert refused.value.details["key"].startswith(name)


def test_widths_that_differ_are_refused_across_namings(tmp_path: Path) -> None:
    wide = adapters.lora(_split("q"), (32, 32), 3, pair=PEFT) | adapters.lora(
        _single("proj_mlp"), (128, 32), 3, pair=PEFT
    )
    with pytest.raises(WeightsMismatch) as refused:
        merge(tmp_path, [(_kohya(), 0.5), (wide, 0.5)], "concat", METADATA)
    assert len(refused.value.details["files"]) == 2
