"""What LoRAs do to a checkpoint, against dense sums in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import InvalidParams, WeightsMismatch, WeightsNotFinite, WeightsUnsupported
from contract.methods.merge import WeightedLora
from contract.methods.weights import WeightsFile
from kernel.engines.factors.deltas import Deltas
from kernel.engines.factors.loras import Weighted, weighted
from tests.builders import adapters
from tests.builders.adapters import PEFT, Tensors
from tests.kernel.engines.factors.checkpoints import (
    ATTENTION,
    CONVOLUTION,
    CONVOLUTION_BIAS,
    FEED_FORWARD,
    FINAL,
    FLUX,
    FUSED,
    FUSED_BIAS,
    FUSED_MODULES,
    LINEAR1,
    MODULES,
    NORM,
    NORM_BIAS,
    QKV,
    SDXL,
    SKIP,
    checkpoint,
    weights,
)
from trainer.weights.tensor_file import open_weights

Shapes = dict[str, tuple[int, ...]]


def _weighted(folder: Path, tensors: Tensors, **fields: Any) -> Weighted:
    path = folder / f"lora{len(list(folder.iterdir()))}.safetensors"
    file = open_weights(str(adapters.write(path, tensors)))
    return weighted(file, WeightedLora(model=WeightsFile(path=str(path)), **fields))


def _deltas(folder: Path, *loras: Weighted, shapes: Shapes = SDXL, family: str = "sdxl") -> Deltas:
    path = folder / "model.safetensors"
    file = open_weights(str(path)) if path.exists() else checkpoint(path, weights(shapes))
    return Deltas(loras, family, file)


def _baked(deltas: Deltas, key: str, *, rows: int | None = None, shapes: Shapes = SDXL) -> torch.Tensor:
    """The tensor with all changes, given over in pieces of so many rows."""
    weight = weights(shapes)[key].clone()
    step = rows or weight.shape[0]
    for start in range(0, weight.shape[0], step):
        deltas.add_(key, weight[start : start + step], start)
    return weight.double()


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize("rows", [None, 1, 7])
def test_several_loras_add_up(tmp_path: Path, rows: int | None) -> None:
    keys = [ATTENTION, CONVOLUTION, SKIP, FEED_FORWARD]
    loras: list[Tensors] = [{}, {}]
    for index, key in enumerate(keys):
        loras[0] |= adapters.lora(MODULES[key], SDXL[key], 4, alpha=2, seed=index)
        loras[1] |= adapters.lora(MODULES[key], SDXL[key], 6, alpha=1, seed=50 + index)
    deltas = _deltas(
        tmp_path, _weighted(tmp_path, loras[0], weight=0.8), _weighted(tmp_path, loras[1], weight=-0.5)
    )
    assert deltas.keys == set(keys)
    assert not deltas.left_out
    for key in keys:
        expected = weights(SDXL)[key].double()
        for lora, weight in zip(loras, (0.8, -0.5), strict=True):
            expected = expected + weight * adapters.dense(lora, MODULES[key])
        assert _close(_baked(deltas, key, rows=rows), expected)


def _networks(name: str, shape: tuple[int, ...]) -> dict[str, Tensors]:
    out, inside, *kernel = shape
    made = {
        "lora": adapters.lora(name, shape, 4, alpha=2),
        "loha": adapters.loha(name, shape, 3, alpha=2),
        "lokr": adapters.lokr(name, (2, 4), (out // 2, inside // 4, *kernel), alpha=2),
        "lokr of ranks": adapters.lokr(
            name, (2, 4), (out // 2, inside // 4, *kernel), rank=2, both=True, alpha=2
        ),
        "full": adapters.full(name, shape),
    }
    if kernel:
        made["locon with mid"] = adapters.locon_mid(name, shape, 3, alpha=2)
        made["loha with core"] = adapters.loha(name, shape, 3, alpha=2, tucker=True)
        made["lokr with core"] = adapters.lokr(
            name, (2, 4), (out // 2, inside // 4, *kernel), rank=2, tucker=True, alpha=2
        )
    return made


@pytest.mark.parametrize("key", [ATTENTION, CONVOLUTION, SKIP])
@pytest.mark.parametrize("rows", [None, 3])
def test_every_network_is_baked_in(tmp_path: Path, key: str, rows: int | None) -> None:
    for tensors in _networks(MODULES[key], SDXL[key]).values():
        deltas = _deltas(tmp_path, _weighted(tmp_path, tensors, weight=0.7))
        expected = weights(SDXL)[key].double() + 0.7 * adapters.dense(tensors, MODULES[key], SDXL[key])
        assert _close(_baked(deltas, key, rows=rows), expected)


def _dora(weight: torch.Tensor, delta: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Equation 5 of DoRA: rows where the magnitude is (out, 1, …), input channels where it is (1, in, …)."""
    updated = weight.double() + delta
    kept = 0 if magnitude.shape[0] == weight.shape[0] else 1
    summed = [axis for axis in range(weight.dim()) if axis != kept]
    return magnitude.double() * updated / updated.square().sum(dim=summed, keepdim=True).sqrt()


@pytest.mark.parametrize("key", [ATTENTION, CONVOLUTION, SKIP])
@pytest.mark.parametrize("axis", ["rows", "channels"])
@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_a_dora_has_its_magnitudes(tmp_path: Path, key: str, axis: str, weight: float) -> None:
    name, shape = MODULES[key], SDXL[key]
    tensors = adapters.dora(name, shape, 4, alpha=2)
    if axis == "channels":
        tensors[f"{name}.dora_scale"] = torch.rand(1, shape[1], *[1] * (len(shape) - 2)) + 0.5
    other = adapters.lora(name, shape, 4, alpha=2, seed=5)
    deltas = _deltas(
        tmp_path, _weighted(tmp_path, other, weight=0.3), _weighted(tmp_path, tensors, weight=weight)
    )
    before = weights(SDXL)[key].double()
    decomposed = _dora(before, adapters.dense(tensors, name), tensors[f"{name}.dora_scale"])
    expected = before + 0.3 * adapters.dense(other, name) + weight * (decomposed - before)
    assert (key in deltas.whole) is (axis == "channels")
    assert _close(_baked(deltas, key, rows=None if axis == "channels" else 5), expected)


def test_magnitudes_of_peft_are_those_of_rows(tmp_path: Path) -> None:
    name, shape = "unet.down_blocks.0.resnets.0.conv1", SDXL[CONVOLUTION]
    tensors = adapters.lora(name, shape, 4, pair=PEFT)
    magnitude = torch.rand(1, shape[0], 1, 1) + 0.5
    tensors[f"{name}.lora_magnitude_vector.weight"] = magnitude
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    before = weights(SDXL)[CONVOLUTION]
    expected = _dora(before, adapters.dense(tensors, name), magnitude.transpose(0, 1))
    assert _close(_baked(deltas, CONVOLUTION, rows=3), expected)


def test_magnitudes_of_channels_need_all_rows(tmp_path: Path) -> None:
    name, shape = MODULES[ATTENTION], SDXL[ATTENTION]
    tensors = adapters.dora(name, shape, 4) | {f"{name}.dora_scale": torch.ones(1, shape[1])}
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    with pytest.raises(ValueError, match="all of its rows"):
        _baked(deltas, ATTENTION, rows=5)


@pytest.mark.parametrize("rows", [None, 10])
def test_modules_of_a_fused_weight_change_their_rows(tmp_path: Path, rows: int | None) -> None:
    q, _, v = FUSED_MODULES
    tensors = adapters.lora(q, (24, 24), 4, alpha=2, seed=1) | adapters.dora(v, (24, 24), 4, seed=2)
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors, components={"te2": 0.5}))
    before = weights(SDXL)[FUSED].double()
    expected = before.clone()
    expected[:24] += 0.5 * adapters.dense(tensors, q)
    decomposed = _dora(before[48:], adapters.dense(tensors, v), tensors[f"{v}.dora_scale"])
    expected[48:] += 0.5 * (decomposed - before[48:])
    assert _close(_baked(deltas, FUSED, rows=rows), expected)


def test_split_and_fused_names_of_flux_change_the_same_weights(tmp_path: Path) -> None:
    split = "transformer.transformer_blocks.0.attn.to_k"
    swapped = "transformer.norm_out.linear"
    mlp = "transformer.single_transformer_blocks.0.proj_mlp"
    peft = (
        adapters.lora(split, (32, 32), 4, pair=PEFT, seed=1)
        | adapters.lora(swapped, (64, 32), 4, pair=PEFT, seed=2)
        | adapters.lora(mlp, (128, 32), 4, pair=PEFT, seed=3)
    )
    kohya = adapters.lora(MODULES[QKV], (96, 32), 4, alpha=1, seed=4)
    deltas = _deltas(
        tmp_path,
        _weighted(tmp_path, peft, weight=0.5),
        _weighted(tmp_path, kohya),
        shapes=FLUX,
        family="flux1",
    )
    assert deltas.keys == {QKV, LINEAR1, FINAL}
    expected = {key: tensor.double() for key, tensor in weights(FLUX).items()}
    expected[QKV] += adapters.dense(kohya, MODULES[QKV])
    expected[QKV][32:64] += 0.5 * adapters.dense(peft, split)
    expected[LINEAR1][96:] += 0.5 * adapters.dense(peft, mlp)
    # Shift and scale lie the other way round in diffusers.
    first, second = adapters.dense(peft, swapped).chunk(2)
    expected[FINAL] += 0.5 * torch.cat([second, first])
    for key, value in expected.items():
        assert _close(_baked(deltas, key, rows=9, shapes=FLUX), value)


def test_biases_and_norms_are_changed(tmp_path: Path) -> None:
    name, norm = MODULES[CONVOLUTION], MODULES[NORM]
    tensors = adapters.full(name, SDXL[CONVOLUTION], bias=True) | {
        f"{norm}.w_norm": torch.randn(12),
        f"{norm}.b_norm": torch.randn(12),
    }
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors, weight=0.5))
    expected = {
        CONVOLUTION: tensors[f"{name}.diff"],
        CONVOLUTION_BIAS: tensors[f"{name}.diff_b"],
        NORM: tensors[f"{norm}.w_norm"],
        NORM_BIAS: tensors[f"{norm}.b_norm"],
    }
    assert deltas.keys == set(expected)
    for key, difference in expected.items():
        assert _close(_baked(deltas, key, rows=5), weights(SDXL)[key].double() + 0.5 * difference)


def test_the_bias_of_a_lora_has_its_scale(tmp_path: Path) -> None:
    q = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj"
    tensors = adapters.lora(q, (24, 24), 4, alpha=2, pair=PEFT) | {f"{q}.lora_B.bias": torch.randn(24)}
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    expected = weights(SDXL)[FUSED_BIAS].double()
    expected[:24] += 0.5 * tensors[f"{q}.lora_B.bias"]
    assert _close(_baked(deltas, FUSED_BIAS), expected)


@pytest.mark.parametrize("role", ["diff_b", "lora_up.bias"])
@pytest.mark.parametrize("shape", [(19,), (), (20, 1)])
def test_a_bias_of_another_size_is_refused(tmp_path: Path, role: str, shape: tuple[int, ...]) -> None:
    name = MODULES[CONVOLUTION]
    tensors = adapters.lora(name, SDXL[CONVOLUTION], 4) | {f"{name}.{role}": torch.ones(shape)}
    with pytest.raises(WeightsMismatch) as refused:
        _deltas(tmp_path, _weighted(tmp_path, tensors))
    assert refused.value.details["key"] == f"{name}.{role}"


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_numbers_that_mean_nothing_by_themselves_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    key = f"{MODULES[ATTENTION]}.lora_up.weight"
    tensors = adapters.lora(MODULES[ATTENTION], SDXL[ATTENTION], 4)
    tensors[key] = tensors[key].to(dtype)
    with pytest.raises(WeightsUnsupported, match=r"only floating-point") as refused:
        _deltas(tmp_path, _weighted(tmp_path, tensors))
    assert refused.value.details["key"] == key


def test_a_module_by_two_names_is_refused(tmp_path: Path) -> None:
    dotted = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k"
    tensors = adapters.lora(MODULES[ATTENTION], SDXL[ATTENTION], 4)
    tensors |= adapters.lora(dotted, SDXL[ATTENTION], 4)
    with pytest.raises(WeightsUnsupported, match=MODULES[ATTENTION]):
        _deltas(tmp_path, _weighted(tmp_path, tensors))


def test_a_weight_may_be_replaced(tmp_path: Path) -> None:
    name = MODULES[ATTENTION]
    tensors = {f"{name}.set_weight": torch.randn(SDXL[ATTENTION])}
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    assert _close(_baked(deltas, ATTENTION, rows=5), tensors[f"{name}.set_weight"].double())


def test_blocks_have_weights_of_their_own(tmp_path: Path) -> None:
    tensors: Tensors = {}
    for key in (ATTENTION, CONVOLUTION, FEED_FORWARD):
        tensors |= adapters.lora(MODULES[key], SDXL[key], 4)
    lora = _weighted(tmp_path, tensors, components={"te2": 0.0}, blocks={"IN04": 2.0})
    deltas = _deltas(tmp_path, lora)
    assert deltas.keys == {ATTENTION, CONVOLUTION}
    for key, weight in ((ATTENTION, 2.0), (CONVOLUTION, 1.0)):
        expected = weights(SDXL)[key].double() + weight * adapters.dense(tensors, MODULES[key])
        assert _close(_baked(deltas, key), expected)
    with pytest.raises(InvalidParams) as refused:
        _deltas(tmp_path, _weighted(tmp_path, tensors, blocks={"IN11": 1.0}))
    assert refused.value.where == "$.params.settings.loras[0].blocks"


def test_what_fits_nothing_is_reported(tmp_path: Path) -> None:
    missing = "lora_unet_input_blocks_7_1_transformer_blocks_0_attn2_to_k"
    tensors = adapters.lora(MODULES[ATTENTION], SDXL[ATTENTION], 4)
    tensors |= adapters.lora(missing, (8, 8), 4) | {"strange": torch.ones(1)}
    tensors |= {f"{MODULES[SKIP]}.diff_b": torch.ones(24)}
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    assert sorted(deltas.left_out) == sorted([missing, "strange", f"{MODULES[SKIP]}.diff_b"])


def test_a_lora_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    tensors = adapters.lora("lora_unet_input_blocks_7_1_transformer_blocks_0_attn2_to_k", (8, 8), 4)
    with pytest.raises(WeightsMismatch, match="fits"):
        _deltas(tmp_path, _weighted(tmp_path, tensors))


def test_shapes_and_families_that_differ_are_refused_with_both_files(tmp_path: Path) -> None:
    model = str(tmp_path / "model.safetensors")
    for tensors in (
        adapters.lora(MODULES[ATTENTION], (48, 32), 4),
        adapters.lora(MODULES[QKV], FLUX[QKV], 4),
    ):
        lora = _weighted(tmp_path, tensors)
        with pytest.raises(WeightsMismatch) as refused:
            _deltas(tmp_path, lora)
        assert set(refused.value.details["files"]) == {lora.adapter.file.where, model}


def test_a_network_that_is_not_known_is_refused(tmp_path: Path) -> None:
    tensors = {f"{MODULES[ATTENTION]}.oft_blocks": torch.zeros(4, 12, 12)}
    with pytest.raises(WeightsUnsupported, match="OFT"):
        _deltas(tmp_path, _weighted(tmp_path, tensors))


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    tensors = adapters.lora(MODULES[ATTENTION], SDXL[ATTENTION], 4)
    tensors[f"{MODULES[ATTENTION]}.lora_down.weight"][0, 0] = torch.inf
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    with pytest.raises(WeightsNotFinite) as refused:
        _baked(deltas, ATTENTION)
    assert refused.value.details["key"] == f"{MODULES[ATTENTION]}.lora_down.weight"


def test_magnitudes_of_another_count_are_refused(tmp_path: Path) -> None:
    name = MODULES[ATTENTION]
    tensors = adapters.dora(name, SDXL[ATTENTION], 4) | {f"{name}.dora_scale": torch.ones(7, 1)}
    deltas = _deltas(tmp_path, _weighted(tmp_path, tensors))
    with pytest.raises(WeightsMismatch, match="dora_scale"):
        _baked(deltas, ATTENTION)
