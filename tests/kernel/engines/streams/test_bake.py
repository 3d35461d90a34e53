"""LoRAs into a checkpoint, against their dense ΔW."""

from pathlib import Path

import pytest
import torch

from contract.errors import JobCanceled, WeightsIncomplete, WeightsMismatch, WeightsNotFinite
from contract.methods.merge import Bake, MergeOutcome, WeightedLora
from contract.methods.weights import FileOutput
from kernel.engines.streams import expressions
from kernel.engines.streams.run import bake
from kernel.jobs import request_cancel
from kernel.surgery import Surgery
from tests.builders import adapters
from tests.builders.checkpoints import bare_vae, sd15, write
from tests.kernel.engines.streams.running import Tensors, file, job, run

BLOCK = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0"
ATTENTION = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
#: Module → the tensor that it changes.
MODULES = {
    f"{ATTENTION}_attn1_to_q": f"{BLOCK}.attn1.to_q.weight",
    f"{ATTENTION}_attn2_to_k": f"{BLOCK}.attn2.to_k.weight",
    f"{ATTENTION}_ff_net_2": f"{BLOCK}.ff.net.2.weight",
    "lora_unet_mid_block_attentions_0_proj_in": "model.diffusion_model.middle_block.1.proj_in.weight",
    "lora_unet_down_blocks_0_resnets_0_conv1": "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
    "lora_te_text_model_encoder_layers_0_mlp_fc1": (
        "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    ),
}


@pytest.fixture
def model(tmp_path: Path) -> Tensors:
    """model.safetensors."""
    tensors = sd15(1, dtype=torch.float32)
    write(tmp_path / "model.safetensors", tensors)
    return tensors


def _lora(folder: Path, name: str, model: Tensors, seed: int = 0) -> Tensors:
    tensors: Tensors = {}
    for module, key in MODULES.items():
        tensors |= adapters.lora(module, tuple(model[key].shape), 4, alpha=2, seed=seed)
    adapters.write(folder / f"{name}.safetensors", tensors)
    return tensors


def _bake(folder: Path, loras: dict[str, float], **settings: str) -> tuple[MergeOutcome, Tensors]:
    weighted = [WeightedLora(model=file(folder, name), weight=weight) for name, weight in loras.items()]
    return run(bake, Bake(model=file(folder, "model"), loras=weighted, **settings), folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", [1 << 18, 700])
def test_every_module_is_added_to_its_weight(
    tmp_path: Path, model: Tensors, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expressions, "PIECE", piece)
    first, second = (_lora(tmp_path, name, model, seed) for seed, name in enumerate(("first", "second")))
    outcome, out = _bake(tmp_path, {"first": 0.8, "second": -0.3})
    for module, key in MODULES.items():
        change = 0.8 * adapters.dense(first, module) - 0.3 * adapters.dense(second, module)
        wanted = model[key].double() + change.reshape(model[key].shape)
        torch.testing.assert_close(out[key].double(), wanted, rtol=1e-5, atol=1e-6)
    others = model.keys() - set(MODULES.values())
    assert out.keys() == model.keys() and all(torch.equal(out[key], model[key]) for key in others)
    assert (outcome.merged, outcome.kept) == (len(MODULES), len(others))
    assert outcome.left_out == [] and len(outcome.inputs) == 3


def test_baking_nothing_much_changes_nothing(tmp_path: Path, model: Tensors) -> None:
    _lora(tmp_path, "lora", model)
    _, out = _bake(tmp_path, {"lora": 0.0})
    assert all(torch.equal(out[key], each) for key, each in model.items())


@pytest.mark.parametrize("axis", [1, 0])
def test_a_dora_is_baked_by_its_magnitudes(
    tmp_path: Path, model: Tensors, axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its rows, or of its input channels, for which all rows have to be known."""
    monkeypatch.setattr(expressions, "PIECE", 100)
    module = f"{ATTENTION}_attn1_to_q"
    key = MODULES[module]
    lora = adapters.lora(module, (32, 32), 4)
    magnitude = torch.rand((32, 1) if axis else (1, 32)) + 0.5
    adapters.write(tmp_path / "dora.safetensors", lora | {f"{module}.dora_scale": magnitude})
    _, out = _bake(tmp_path, {"dora": 1.0})
    changed = model[key].double() + adapters.dense(lora, module)
    wanted = magnitude.double() * changed / changed.norm(dim=axis, keepdim=True)
    torch.testing.assert_close(out[key].double(), wanted, rtol=1e-4, atol=1e-5)


def test_modules_without_a_place_are_reported(tmp_path: Path, model: Tensors) -> None:
    lora = _lora(tmp_path, "lora", model)
    stray = "lora_unet_down_blocks_9_attentions_0_proj_in"
    adapters.write(tmp_path / "lora.safetensors", lora | adapters.lora(stray, (32, 32, 1, 1), 4))
    outcome, _ = _bake(tmp_path, {"lora": 1.0})
    assert outcome.left_out == [stray] and outcome.left_out_count == 1


def test_numbers_are_written_as_asked_for(tmp_path: Path, model: Tensors) -> None:
    _lora(tmp_path, "lora", model)
    _, out = _bake(tmp_path, {"lora": 1.0}, dtype="bf16")
    assert {out[key].dtype for key in MODULES.values()} == {torch.bfloat16}


def test_a_vae_is_nothing_to_bake_into(tmp_path: Path, model: Tensors) -> None:
    _lora(tmp_path, "lora", model)
    write(tmp_path / "model.safetensors", bare_vae(model))
    with pytest.raises(WeightsMismatch, match="no model that LoRAs are made for"):
        _bake(tmp_path, {"lora": 1.0})


def test_a_module_of_which_half_is_missing_is_refused_by_its_key(tmp_path: Path, model: Tensors) -> None:
    lora = _lora(tmp_path, "lora", model)
    module = f"{ATTENTION}_attn1_to_q"
    del lora[f"{module}.lora_down.weight"]
    adapters.write(tmp_path / "lora.safetensors", lora)
    with pytest.raises(WeightsIncomplete) as refused:
        _bake(tmp_path, {"lora": 1.0})
    assert refused.value.where == str(tmp_path / "lora.safetensors")
    assert refused.value.details == {"key": f"{module}.lora_up.weight"}
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lora", "model"])
def test_numbers_that_are_none_are_named_with_their_file(
    tmp_path: Path, model: Tensors, name: str, bad: float
) -> None:
    lora = _lora(tmp_path, "lora", model)
    module = f"{ATTENTION}_attn1_to_q"
    key = f"{module}.lora_up.weight" if name == "lora" else MODULES[module]
    tensors = lora if name == "lora" else model
    tensors[key][1, 2] = bad
    write(tmp_path / f"{name}.safetensors", tensors)
    with pytest.raises(WeightsNotFinite) as refused:
        _bake(tmp_path, {"lora": 1.0})
    assert refused.value.where == str(tmp_path / f"{name}.safetensors")
    assert refused.value.details == {"key": key}
    assert not (tmp_path / "out.safetensors").exists()


def test_a_wish_to_stop_is_heard_between_two_tensors(
    tmp_path: Path, model: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lora(tmp_path, "lora", model)
    settings = Bake(model=file(tmp_path, "model"), loras=[WeightedLora(model=file(tmp_path, "lora"))])
    running = job(tmp_path)
    heard: list[int] = []

    def progress(phase: str, done: int, *_: object, **__: object) -> None:
        heard.append(done)
        if done == 20:
            request_cancel(running, "graceful")

    monkeypatch.setattr(running, "progress", progress)
    with (
        Surgery(running, FileOutput(file=str(tmp_path / "out.safetensors"))) as surgery,
        pytest.raises(JobCanceled),
    ):
        bake(settings, surgery)
    assert heard == list(range(21))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lora.safetensors", "model.safetensors"]
