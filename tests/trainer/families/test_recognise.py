"""What is no model of the family is refused by its header, before a tensor is read or torch imported."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.errors import (
    WeightsFormat,
    WeightsMismatch,
    WeightsUnknown,
    WeightsUnsupported,
)
from trainer.families import FAMILIES, ModelFiles, Recognised, recognise
from trainer.fixtures import Fixture
from trainer.weights.tensor_file import TensorFile

LORA = {
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 320, 1, 1),
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": torch.zeros(320, 4, 1, 1),
}
SD2 = {
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 1024),
    "model.diffusion_model.input_blocks.1.1.proj_in.weight": torch.zeros(8, 8),
    "cond_stage_model.model.ln_final.weight": torch.zeros(8),
}


@pytest.fixture(autouse=True)
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(TensorFile, "tensor", refused)


def refused(path: Path, family: str = "sd15") -> str:
    """Where what is refused is named."""
    with pytest.raises((WeightsMismatch, WeightsUnknown, WeightsUnsupported, WeightsFormat)) as caught:
        FAMILIES[family].load(ModelFiles(model=str(path)), torch.float32)
    assert caught.value.where == str(path)
    return f"{type(caught.value).__name__}: {caught.value.message}"


def test_files_and_folders_are_recognised(models: Mapping[str, Fixture], family: str) -> None:
    for path in (models[family].file, models[family].folder):
        assert recognise(ModelFiles(model=str(path))) == Recognised(family, "epsilon", False, [])


@pytest.mark.parametrize("wanted", ["sd15", "sdxl"])
def test_the_other_family_is_refused_with_what_was_seen(models: Mapping[str, Fixture], wanted: str) -> None:
    other = {"sd15": "sdxl", "sdxl": "sd15"}[wanted]
    titles = {"sd15": "SD1.5", "sdxl": "SDXL"}
    for path in (models[other].file, models[other].folder):
        said = refused(path, wanted)
        assert said.startswith("WeightsMismatch")
        assert f"is a model of {titles[other]}, not of {titles[wanted]}: `" in said


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (LORA, "WeightsMismatch: `{}` is a LoRA, no model"),
        ({"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)}, "WeightsMismatch: `{}` is a VAE, no model"),
        ({"something.weight": torch.zeros(3, 3)}, "WeightsUnknown: `{}` is of no family"),
        ({}, "WeightsUnknown: `{}` is of no family"),
        (SD2, "WeightsMismatch: `{}` is a model of SD2, not of SD1.5"),
    ],
    ids=["lora", "vae", "unknown", "empty", "sd2"],
)
def test_files_that_diffusers_takes_for_sd15_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], says: str
) -> None:
    """`infer_diffusers_model_type` calls v1 whatever it does not know (dependencies.md 2.2, defect 5)."""
    path = tmp_path / "file.safetensors"
    save_file(tensors, path)
    assert refused(path).startswith(says.format(path))


def test_a_family_that_cannot_be_trained_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file(SD2, path)
    with pytest.raises(WeightsUnsupported, match=r"a model of SD2; LoRAs are trained for SD1.5 and SDXL"):
        recognise(ModelFiles(model=str(path)))


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.ckpt"
    path.write_bytes(b"PK\x03\x04 and so on")
    assert refused(path).startswith("WeightsFormat")


def test_models_for_inpainting_are_refused(
    edited: Callable[..., Path], models: Mapping[str, Fixture]
) -> None:
    key = "model.diffusion_model.input_blocks.0.0.weight"
    tensors = load_file(models["sd15"].file)
    path = edited("sd15", lambda each: each.update({key: torch.zeros(16, 9, 3, 3)}))
    assert key in tensors
    assert "takes 9 channels, 4 of them a latent" in refused(path)


def test_numbers_that_need_a_scale_are_refused(edited: Callable[..., Path]) -> None:
    scale = "model.diffusion_model.middle_block.1.proj_in.scale_weight"
    path = edited("sd15", lambda each: each.update({scale: torch.ones(())}))
    assert "scales beside them" in refused(path)


def test_metadata_that_is_not_true_is_a_warning(edited: Callable[..., Path]) -> None:
    path = edited("sd15", **{"modelspec.architecture": "stable-diffusion-xl-v1-base"})
    (warning,) = recognise(ModelFiles(model=str(path))).warnings
    assert "says SDXL" in warning


def test_a_file_that_is_no_vae_or_another_familys_is_refused(
    models: Mapping[str, Fixture], tmp_path: Path
) -> None:
    flux = tmp_path / "ae.safetensors"
    save_file({"decoder.conv_in.weight": torch.zeros(8, 16, 3, 3)}, flux)
    for vae, says in ((models["sd15"].file, "is no VAE"), (flux, "is a VAE of SD3, FLUX.1")):
        files = ModelFiles(model=str(models["sd15"].file), vae=str(vae))
        with pytest.raises(WeightsMismatch) as caught:
            FAMILIES["sd15"].load(files, torch.float32)
        assert caught.value.where == str(vae)
        assert says in caught.value.message


def test_recognising_needs_neither_torch_nor_diffusers(models: Mapping[str, Fixture]) -> None:
    code = (
        "import sys; from trainer.families import ModelFiles, recognise\n"
        f"recognise(ModelFiles(model={str(models['sdxl'].file)!r}))\n"
        "print({'torch', 'diffusers', 'transformers'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"
