"""Single files as other programs write them: the same model comes out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trainer.families import FAMILIES, Loaded, ModelFiles
from trainer.families.vae_keys import vae_layout
from trainer.fixtures import Fixture
from trainer.weights.tensor_file import open_weights

Edit = Callable[[dict[str, torch.Tensor]], None]
Tensors = dict[str, torch.Tensor]


def rename(tensors: Tensors, old: str, new: str) -> None:
    for key in [key for key in tensors if key.startswith(old)]:
        tensors[new + key.removeprefix(old)] = tensors.pop(key)


def encoders_of_comfyui(tensors: Tensors, folder: Path) -> None:
    """SDXL's text encoders where it keeps them in newer files, both in the layout of transformers."""
    rename(tensors, "conditioner.embedders.0.transformer.", "text_encoders.clip_l.transformer.")
    rename(tensors, "conditioner.embedders.1.", "unused.")
    state = load_file(folder / "text_encoder_2" / "model.safetensors")
    tensors |= {f"text_encoders.clip_g.transformer.{key}": tensor for key, tensor in state.items()}
    # CLIP-L has a projection there that no part of SDXL reads.
    tensors["text_encoders.clip_l.transformer.text_projection.weight"] = torch.zeros(24, 24)


def without_the_text_level(tensors: Tensors, _: Path) -> None:
    rename(tensors, "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.")


def bare_prefix(tensors: Tensors, _: Path) -> None:
    rename(tensors, "first_stage_model.", "vae.")


@pytest.mark.parametrize(
    ("family", "edit"),
    [("sdxl", encoders_of_comfyui), ("sd15", without_the_text_level), ("sd15", bare_prefix)],
)
def test_the_same_model_comes_out(
    models: Mapping[str, Fixture],
    edited: Callable[..., Path],
    family: str,
    edit: Callable[[Tensors, Path], None],
) -> None:
    path = edited(family, lambda tensors: edit(tensors, models[family].folder))
    ours, plain = (load(each, family) for each in (path, models[family].file))
    for mine, wanted in zip(parts(ours), parts(plain), strict=True):
        state = wanted.state_dict()
        assert mine.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in mine.state_dict().items())


def test_the_projection_of_big_g_is_turned(models: Mapping[str, Fixture]) -> None:
    """Square in every model, so that no shape would tell."""
    tensors = load_file(models["sdxl"].file)
    encoder: Any = load(models["sdxl"].file, "sdxl").text_encoders["te2"]
    stored, read = tensors["conditioner.embedders.1.model.text_projection"], encoder.text_projection.weight
    assert stored.shape == read.shape
    assert torch.equal(stored.T, read)
    assert not torch.equal(stored, read)


def test_a_vae_of_older_diffusers_has_its_attention_under_other_names(tmp_path: Path) -> None:
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    keys = [f"decoder.mid_block.attentions.0.{name}.weight" for name in old]
    save_file(
        {key: torch.zeros(2, 2) for key in ("decoder.conv_in.weight", *keys)}, tmp_path / "x.safetensors"
    )
    with open_weights(str(tmp_path / "x.safetensors")) as file:
        names = set(vae_layout(file))
    assert names == {
        "decoder.conv_in.weight",
        *(f"decoder.mid_block.attentions.0.{name}.weight" for name in old.values()),
    }


def load(path: Path, family: str) -> Loaded:
    return FAMILIES[family].load(ModelFiles(model=str(path)), torch.float32)


def parts(model: Loaded) -> list[nn.Module]:
    assert model.denoiser is not None and model.vae is not None
    return [model.denoiser, model.vae, *model.text_encoders.values()]
