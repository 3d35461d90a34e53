"""The LoRA between two checkpoints, against dense singular values in float64."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.errors import (
    JobCanceled,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnsupported,
)
from contract.methods.merge import Extract, MergeOutcome, WeightedLora
from contract.methods.weights import WeightsFile
from kernel.engines.factors.deltas import Deltas
from kernel.engines.factors.extraction import extract
from kernel.engines.factors.loras import weighted
from kernel.jobs import request_cancel
from kernel.surgery import Surgery
from tests.builders import adapters
from tests.builders.adapters import Tensors
from tests.builders.surgery import surgery
from tests.kernel.engines.factors.checkpoints import (
    ATTENTION,
    CONVOLUTION,
    CONVOLUTION_BIAS,
    FEED_FORWARD,
    FUSED,
    FUSED_MODULES,
    MODULES,
    NORM,
    SDXL,
    SKIP,
    VAE,
    weights,
)
from tests.kernel.engines.factors.merges import relative
from trainer.weights.tensor_file import open_weights

#: What tells a small checkpoint's family, whose widths do not.
METADATA = {"modelspec.architecture": "stable-diffusion-xl-v1-base"}
LINEAR = [ATTENTION, SKIP, FEED_FORWARD]


def _write(folder: Path, tuned: Tensors, base: Tensors) -> tuple[Path, Path]:
    paths = folder / "tuned.safetensors", folder / "base.safetensors"
    for path, tensors in zip(paths, (tuned, base), strict=True):
        save_file(tensors, path, METADATA)
    return paths


def _extract(folder: Path, tuned: Tensors, base: Tensors, **settings: Any) -> tuple[MergeOutcome, Tensors]:
    paths = _write(folder, tuned, base)
    options: dict[str, Any] = {"dtype": "fp32", "rank": 8} | settings
    wanted = Extract(
        tuned=WeightsFile(path=str(paths[0])),
        base=WeightsFile(path=str(paths[1])),
        **options,
    )
    with surgery(folder, overwrite=True) as job:
        outcome = extract(wanted, job)
    return outcome, load_file(folder / "out.safetensors")


def _tuned(base: Tensors, keys: list[str], *, rank: int, scale: float = 0.05) -> Tensors:
    """`base` with differences of a rank, and of falling size, in some weights."""
    source = torch.Generator().manual_seed(1)
    tuned = dict(base)
    for key in keys:
        shape = base[key].flatten(1).shape
        up = torch.randn(shape[0], rank, generator=source) * 0.7 ** torch.arange(rank)
        difference = up @ torch.randn(rank, shape[1], generator=source) * scale
        tuned[key] = base[key] + difference.reshape(base[key].shape)
    return tuned


def _name(key: str) -> str:
    return MODULES[key]


@pytest.mark.parametrize("rule", ["proportional", "rank", "one"])
def test_differences_of_a_low_rank_come_back(tmp_path: Path, rule: str) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, LINEAR, rank=5)
    outcome, lora = _extract(tmp_path, tuned, base, alpha=rule)
    assert adapters.modules_of(lora) == sorted(_name(key) for key in LINEAR)
    assert outcome.merged == 3
    assert outcome.error is not None
    assert outcome.error < 1e-4
    for key in LINEAR:
        # fp32 of the checkpoints is what limits this: the differences are a hundredth of the weights.
        assert relative(adapters.dense(lora, _name(key)), (tuned[key] - base[key]).double()) < 1e-5
        assert float(lora[f"{_name(key)}.alpha"]) == (1.0 if rule == "one" else 8.0)


@pytest.mark.parametrize("keep", [True, False])
def test_the_error_is_the_best_and_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.setattr("kernel.engines.factors.lowrank.OVERSAMPLING", 4)
    if not keep:
        monkeypatch.setattr("kernel.engines.factors.lowrank.KEEP_BYTES", 0)
        monkeypatch.setattr("kernel.engines.factors.lowrank.CHUNK_BYTES", 999)
    base = weights(SDXL)
    tuned = _tuned(base, [*LINEAR, CONVOLUTION], rank=16)
    outcome, lora = _extract(tmp_path, tuned, base, rank=4, conv_rank=3, iterations=4)
    errors, norms = 0.0, 0.0
    stated = {module.name: module for module in outcome.modules}
    for key in [*LINEAR, CONVOLUTION]:
        difference = (tuned[key] - base[key]).double()
        values = torch.linalg.svdvals(difference.flatten(1))
        rank = 3 if key == CONVOLUTION else 4
        best = float(values[rank:].norm() / values.norm())
        found = relative(adapters.dense(lora, _name(key)), difference)
        assert stated[_name(key)].rank == rank
        assert stated[_name(key)].error == pytest.approx(found, rel=1e-4)
        assert best <= found * (1 + 1e-6)
        assert found == pytest.approx(best, rel=1e-2)
        errors += float(values.norm()) ** 2 * found**2
        norms += float(values.norm()) ** 2
    assert outcome.error == pytest.approx(math.sqrt(errors / norms), rel=1e-4)


def test_full_rank_is_the_difference(tmp_path: Path) -> None:
    base, tuned = weights(SDXL), weights(SDXL, seed=1)
    outcome, lora = _extract(tmp_path, tuned, base, rank=256, conv_rank=256)
    assert outcome.error is not None
    assert outcome.error < 1e-6
    for key in [*LINEAR, CONVOLUTION]:
        assert relative(adapters.dense(lora, _name(key)), (tuned[key] - base[key]).double()) < 1e-6
        assert lora[f"{_name(key)}.lora_down.weight"].shape[0] == min(base[key].flatten(1).shape)


def test_bake_then_extract_is_the_lora(tmp_path: Path) -> None:
    base = weights(SDXL)
    keys = [*LINEAR, CONVOLUTION]
    lora: Tensors = {}
    for index, key in enumerate(keys):
        lora |= adapters.lora(_name(key), SDXL[key], 4, alpha=2, seed=index, scale=0.3)
    for index, name in enumerate(FUSED_MODULES[:2]):
        lora |= adapters.lora(name, (24, 24), 4, alpha=2, seed=50 + index, scale=0.3)
    file = open_weights(str(adapters.write(tmp_path / "lora.safetensors", lora)))
    settings = WeightedLora(model=WeightsFile(path=file.path))
    deltas = Deltas([weighted(file, settings)], "sdxl", open_weights(str(_write(tmp_path, base, base)[1])))
    tuned = {key: tensor.clone() for key, tensor in base.items()}
    for key in deltas.keys:
        deltas.add_(key, tuned[key])
    outcome, extracted = _extract(tmp_path, tuned, base, rank=4, conv_rank=4)
    assert outcome.left_out == []
    assert adapters.modules_of(extracted) == adapters.modules_of(lora)
    for name in adapters.modules_of(lora):
        assert relative(adapters.dense(extracted, name), adapters.dense(lora, name)) < 1e-5


def test_convolutions_stay_out_without_a_rank_for_them(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, [ATTENTION, SKIP, CONVOLUTION], rank=2)
    outcome, lora = _extract(tmp_path, tuned, base)
    assert adapters.modules_of(lora) == sorted([_name(ATTENTION), _name(SKIP)])
    assert outcome.left_out == [CONVOLUTION]
    assert outcome.warnings


def test_what_no_lora_can_have_is_reported(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, [ATTENTION], rank=2)
    for key in (NORM, CONVOLUTION_BIAS, VAE):
        tuned[key] = base[key] + 1
    tuned["model_ema.decay"] = torch.tensor(0.5)
    outcome, lora = _extract(tmp_path, tuned, base)
    assert sorted(outcome.left_out) == sorted([NORM, CONVOLUTION_BIAS, VAE, "model_ema.decay"])
    assert outcome.left_out_count == 4
    assert adapters.modules_of(lora) == [_name(ATTENTION)]


def test_small_differences_can_be_left_out(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = _tuned(_tuned(base, [SKIP], rank=2, scale=1e-5), [ATTENTION], rank=2)
    outcome, lora = _extract(tmp_path, tuned, base, min_difference=1e-3)
    assert adapters.modules_of(lora) == [_name(ATTENTION)]
    assert outcome.left_out == [SKIP]


def test_a_part_of_a_fused_weight_that_is_left_out_is_reported(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = dict(base) | {FUSED: base[FUSED].clone()}
    tuned[FUSED][:24] += 1e-5
    tuned[FUSED][24:48] += 0.1
    outcome, lora = _extract(tmp_path, tuned, base, min_difference=1e-3)
    assert adapters.modules_of(lora) == [FUSED_MODULES[1]]
    assert outcome.left_out == [FUSED]
    outcome, lora = _extract(tmp_path, tuned, base)
    assert adapters.modules_of(lora) == FUSED_MODULES[1::-1]
    assert outcome.left_out == []


def test_a_weight_of_no_numbers_does_not_differ(tmp_path: Path) -> None:
    base = weights(SDXL) | {SKIP: torch.zeros(24, 0, 1, 1)}
    outcome, lora = _extract(tmp_path, _tuned(base, [ATTENTION], rank=2), base)
    assert adapters.modules_of(lora) == [_name(ATTENTION)]
    assert outcome.left_out == []


def test_differences_beyond_any_range_are_refused_by_name(tmp_path: Path) -> None:
    base = weights(SDXL)
    with pytest.raises(WeightsUnsupported, match="beyond the range") as refused:
        _extract(tmp_path, base | {ATTENTION: base[ATTENTION] * 1e30}, base)
    assert refused.value.details == {"key": ATTENTION}
    assert not (tmp_path / "out.safetensors").exists()


def test_parts_of_a_fused_weight_are_modules_of_their_own(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = dict(base) | {FUSED: base[FUSED].clone()}
    tuned[FUSED][24:48] += weights(SDXL, seed=3)[FUSED][24:48] * 0.01
    _, lora = _extract(tmp_path, tuned, base, rank=24)
    assert adapters.modules_of(lora) == [FUSED_MODULES[1]]
    expected = (tuned[FUSED] - base[FUSED])[24:48].double()
    assert relative(adapters.dense(lora, FUSED_MODULES[1]), expected) < 1e-6


def test_names_with_dots_have_no_alpha(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, [FEED_FORWARD], rank=2)
    _, lora = _extract(tmp_path, tuned, base, naming="peft")
    name = "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"
    assert lora.keys() == {f"{name}.lora_A.weight", f"{name}.lora_B.weight"}
    assert relative(adapters.dense(lora, name), (tuned[FEED_FORWARD] - base[FEED_FORWARD]).double()) < 1e-5


def test_half_precision_in_and_out(tmp_path: Path) -> None:
    base = {key: tensor.half() for key, tensor in weights(SDXL).items()}
    tuned = {key: tensor.half() for key, tensor in _tuned(weights(SDXL), LINEAR, rank=3).items()}
    _, lora = _extract(tmp_path, tuned, base, dtype="fp16", rank=48)
    assert {tensor.dtype for tensor in lora.values()} == {torch.float16}
    for key in LINEAR:
        expected = tuned[key].double() - base[key].double()
        assert relative(adapters.dense(lora, _name(key)), expected) < 2e-3


@pytest.mark.parametrize(("dtype", "least"), [("fp16", 1e-4), ("bf16", 1e-3)])
def test_what_the_type_rounds_is_in_the_error(tmp_path: Path, dtype: str, least: float) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, [ATTENTION], rank=3)
    outcome, lora = _extract(tmp_path, tuned, base, dtype=dtype, rank=48)
    found = relative(adapters.dense(lora, _name(ATTENTION)), (tuned[ATTENTION] - base[ATTENTION]).double())
    assert found > least
    assert outcome.error == pytest.approx(found, rel=0.1)


def test_types_of_numbers_may_differ(tmp_path: Path) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, [ATTENTION], rank=2)
    halved = {key: tensor.bfloat16() if key == ATTENTION else tensor for key, tensor in base.items()}
    _, lora = _extract(tmp_path, tuned, halved, rank=48)
    expected = tuned[ATTENTION].double() - halved[ATTENTION].double()
    assert relative(adapters.dense(lora, _name(ATTENTION)), expected) < 1e-6


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    base, tuned = weights(SDXL), weights(SDXL, seed=1)
    runs = [_extract(tmp_path, tuned, base, rank=4, conv_rank=4)[0].sha256 for _ in range(2)]
    assert runs[0] == runs[1]
    other = _extract(tmp_path, tuned, base, rank=4, conv_rank=4, seed=1)[0].sha256
    assert other != runs[0]


def test_the_same_checkpoint_twice_has_no_lora(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnsupported, match="nothing"):
        _extract(tmp_path, weights(SDXL), weights(SDXL))
    assert not (tmp_path / "out.safetensors").exists()


def test_shapes_that_differ_are_refused(tmp_path: Path) -> None:
    tuned = weights(SDXL | {ATTENTION: (48, 32)})
    with pytest.raises(WeightsMismatch) as refused:
        _extract(tmp_path, tuned, weights(SDXL))
    assert refused.value.details["key"] == ATTENTION


def test_families_that_differ_are_refused(tmp_path: Path) -> None:
    other = {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": torch.ones(96, 32)}
    other["model.diffusion_model.single_blocks.0.linear1.weight"] = torch.ones(224, 32)
    paths = _write(tmp_path, weights(SDXL), other)
    save_file(other, paths[1], {"modelspec.architecture": "flux-1-dev"})
    settings = Extract(tuned=WeightsFile(path=str(paths[0])), base=WeightsFile(path=str(paths[1])))
    with surgery(tmp_path) as job, pytest.raises(WeightsMismatch):
        extract(settings, job)


@pytest.mark.parametrize("which", ["tuned", "base"])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, which: str) -> None:
    tuned, base = weights(SDXL, seed=1), weights(SDXL)
    (tuned if which == "tuned" else base)[SKIP][0, 0] = torch.nan
    with pytest.raises(WeightsNotFinite) as refused:
        _extract(tmp_path, tuned, base)
    assert refused.value.where == str(tmp_path / f"{which}.safetensors")
    assert refused.value.details["key"] == SKIP


def test_a_canceled_extraction_leaves_nothing(tmp_path: Path) -> None:
    paths = _write(tmp_path, weights(SDXL, seed=1), weights(SDXL))
    settings = Extract(tuned=WeightsFile(path=str(paths[0])), base=WeightsFile(path=str(paths[1])))
    with surgery(tmp_path) as job:
        request_cancel(job.job, "graceful")
        with pytest.raises(JobCanceled):
            extract(settings, job)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["base.safetensors", "tuned.safetensors"]


@pytest.mark.parametrize("phase", ["compare", "extract"])
def test_a_wish_to_stop_is_heard_between_two_modules(
    tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = _write(tmp_path, weights(SDXL, seed=1), weights(SDXL))
    settings = Extract(tuned=WeightsFile(path=str(paths[0])), base=WeightsFile(path=str(paths[1])))
    heard: list[tuple[str, int]] = []
    with surgery(tmp_path) as job:

        def progress(name: str, done: int, *_: object, **__: object) -> None:
            heard.append((name, done))
            if heard[-1] == (phase, 2):
                request_cancel(job.job, "graceful")

        monkeypatch.setattr(job.job, "progress", progress)
        with pytest.raises(JobCanceled):
            extract(settings, job)
    assert heard[-1] == (phase, 2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["base.safetensors", "tuned.safetensors"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_as_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = weights(SDXL)
    tuned = _tuned(base, [*LINEAR, CONVOLUTION], rank=4)
    _, on_gpu = _extract(tmp_path, tuned, base, rank=4, conv_rank=4)
    monkeypatch.setattr(Surgery, "device", torch.device("cpu"))
    _, on_cpu = _extract(tmp_path, tuned, base, rank=4, conv_rank=4)
    for name in adapters.modules_of(on_cpu):
        assert relative(adapters.dense(on_gpu, name), adapters.dense(on_cpu, name)) < 1e-4
