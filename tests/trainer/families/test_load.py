"""A model that is loaded here says what the pipelines of diffusers say: of a text, of a picture, of noise."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from contract.errors import (
    FileMissing,
    FileUnreadable,
    WeightsError,
    WeightsIncomplete,
    WeightsMismatch,
    WeightsUnsupported,
)
from trainer.families import FAMILIES, Family, Loaded, ModelFiles, Part, Sizes
from trainer.families.unet_model import UNetModel
from trainer.fixtures import Fixture
from trainer.fixtures.models import FAMILIES as SMALL
from trainer.weights.names import published

CAPTIONS = ["a photo of a cat", "1girl, solo, LOOKING at viewer!"]
SIZES = [Sizes((64, 72), (0, 8), (64, 64)), Sizes((1365, 2048), (3, 0), (64, 64))]
TOLERANCE = 1e-5
UNET = "model.diffusion_model."


def loaded(path: Path, family: str, **options: Any) -> Loaded:
    return FAMILIES[family].load(ModelFiles(model=str(path)), torch.float32, **options)


@pytest.fixture(params=["file", "folder"])
def model(request: pytest.FixtureRequest, models: Mapping[str, Fixture], family: str) -> Loaded:
    return loaded(getattr(models[family], request.param), family)


def test_every_family_of_the_registry_is_one() -> None:
    assert all(isinstance(each, Family) and each.name == name for name, each in FAMILIES.items())
    assert FAMILIES["sdxl"].components == ("unet", "te1", "te2")
    assert FAMILIES["sd15"].components == ("unet", "te1")


def test_weights_are_those_of_diffusers_bit_for_bit(
    model: Loaded, pipelines: Mapping[str, Any], family: str
) -> None:
    theirs = pipelines[family]
    parts = [(model.denoiser, theirs.unet), (model.vae, theirs.vae)]
    parts += [(model.text_encoders["te1"], theirs.text_encoder)]
    if family == "sdxl":
        parts += [(model.text_encoders["te2"], theirs.text_encoder_2)]
    for ours, other in parts:
        assert ours is not None
        mine, wanted = ours.state_dict(), other.state_dict()
        assert mine.keys() == wanted.keys()
        assert all(torch.equal(mine[key], wanted[key]) for key in mine)


@torch.no_grad()
def test_texts_are_encoded_as_the_pipeline_does(
    model: Loaded, pipelines: Mapping[str, Any], family: str
) -> None:
    ours, theirs = model.encode_text(CAPTIONS), pipeline_text(pipelines[family], CAPTIONS)
    assert ours.keys() == theirs.keys() == set(FAMILIES[family].conditions)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=TOLERANCE, rtol=0)
        assert (tensor[0] - tensor[1]).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("skip", [1, 2, 5])
def test_clip_skip_counts_layers_from_the_end(
    models: Mapping[str, Fixture], pipelines: Mapping[str, Any], family: str, skip: int
) -> None:
    """diffusers counts layers left out: from the last for SD1.5, from the one before it for SDXL."""
    model = loaded(models[family].file, family, parts=frozenset({"text"}))
    ours = model.encode_text(CAPTIONS, clip_skip=skip)["hidden"]
    left_out = skip - {"sd15": 1, "sdxl": 2}[family]
    if left_out < 0:
        assert (ours - model.encode_text(CAPTIONS)["hidden"]).abs().max() > 0.01
    else:
        theirs = pipeline_text(pipelines[family], CAPTIONS, left_out or None)["hidden"]
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_what_the_denoiser_says_is_what_the_pipeline_denoises_by(
    model: Loaded, pipelines: Mapping[str, Any], family: str
) -> None:
    noisy = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([3, 900])
    conditions = model.encode_text(CAPTIONS)
    theirs = (
        pipelines[family]
        .unet(
            noisy,
            timesteps,
            encoder_hidden_states=conditions["hidden"],
            added_cond_kwargs=pipeline_sizes(pipelines[family], conditions) if family == "sdxl" else None,
        )
        .sample
    )
    ours = model.predict(noisy, timesteps, conditions, SIZES)
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    assert ours.shape == noisy.shape


@torch.no_grad()
def test_sdxl_is_told_sizes_and_crops_in_fp32(models: Mapping[str, Fixture]) -> None:
    model = loaded(models["sdxl"].file, "sdxl")
    assert isinstance(model, UNetModel)
    conditions = model.encode_text(CAPTIONS)
    beside = model.beside(torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16), conditions, SIZES)
    assert beside is not None
    wanted = torch.tensor([[64.0, 72, 0, 8, 64, 64], [1365, 2048, 3, 0, 64, 64]])
    assert torch.equal(beside["time_ids"], wanted)
    noisy, timesteps = torch.ones(2, 4, 8, 8), torch.tensor([500, 500])
    told = model.predict(noisy, timesteps, conditions, SIZES)
    other = model.predict(noisy, timesteps, conditions, [SIZES[0], SIZES[0]])
    assert torch.equal(told[0], other[0])
    assert (told[1] - other[1]).abs().max() > 1e-3


@torch.no_grad()
def test_pictures_become_scaled_latents_drawn_by_their_own_generators(
    model: Loaded, pipelines: Mapping[str, Any], family: str
) -> None:
    pixels = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    vae = pipelines[family].vae
    drawn, factor = vae.encode(pixels).latent_dist, {"sd15": 0.18215, "sdxl": 0.13025}[family]
    mean = model.encode_pixels(pixels, None)
    assert mean.shape == (2, 4, 8, 16)
    torch.testing.assert_close(mean, drawn.mean * factor, atol=TOLERANCE, rtol=0)
    ours = model.encode_pixels(pixels, [torch.Generator().manual_seed(seed) for seed in (3, 4)])
    noise = [torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    wanted = (drawn.mean + drawn.std * torch.stack(noise)) * factor
    torch.testing.assert_close(ours, wanted, atol=TOLERANCE, rtol=0)
    back = model.decode_latents(mean)
    torch.testing.assert_close(back, vae.decode(mean / factor).sample, atol=TOLERANCE, rtol=0)


def test_every_parameter_has_numbers_and_is_frozen_and_nothing_drops_out(model: Loaded) -> None:
    """Numbers of positions are in no file; left without memory, they made every text NaN, and no error."""
    for part in all_parts(model):
        assert not part.training
        assert not any(each.training for each in part.modules())
        assert not any(each.requires_grad for each in part.parameters())
        assert not any(each.is_meta for each in (*part.parameters(), *part.buffers()))


def test_nothing_is_asked_of_a_network_and_no_number_is_drawn(
    models: Mapping[str, Fixture], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    before = torch.get_rng_state()
    for path in (models[family].file, models[family].folder):
        assert loaded(path, family).denoiser is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_the_file_is_not_held_and_may_be_deleted(models: Mapping[str, Fixture], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(models["sd15"].file.read_bytes())
    model = loaded(path, "sd15")
    path.write_bytes(b"")
    path.unlink()
    assert all(each.isfinite().all() for part in all_parts(model) for each in part.parameters())


@pytest.mark.parametrize("part", ["denoiser", "vae", "text"])
def test_parts_are_loaded_alone_and_let_go_of(models: Mapping[str, Fixture], family: str, part: Part) -> None:
    for path in (models[family].file, models[family].folder):
        model = loaded(path, family, parts=frozenset({part}))
        there = {"denoiser": model.denoiser, "vae": model.vae, "text": model.text_encoders or None}
        assert [name for name, each in there.items() if each is not None] == [part]
        model.unload(part)
        assert (model.denoiser, model.vae, model.text_encoders) == (None, None, {})


def test_numbers_are_kept_as_asked_and_the_vae_of_sdxl_never_in_fp16(models: Mapping[str, Fixture]) -> None:
    files = ModelFiles(model=str(models["sdxl"].file))
    half = FAMILIES["sdxl"].load(files, torch.float16)
    assert {each.dtype for part in all_parts(half) for each in part.parameters()} == {
        torch.float16,
        torch.float32,
    }
    assert half.vae is not None and next(half.vae.parameters()).dtype == torch.float32
    assert half.denoiser is not None and next(half.denoiser.parameters()).dtype == torch.float16
    asked = FAMILIES["sdxl"].load(files, torch.bfloat16, parts=frozenset({"vae"}), vae_dtype=torch.float16)
    assert asked.vae is not None and next(asked.vae.parameters()).dtype == torch.float32
    sd15 = ModelFiles(model=str(models["sd15"].file))
    plain = FAMILIES["sd15"].load(sd15, torch.float16, parts=frozenset({"vae"}))
    assert plain.vae is not None and next(plain.vae.parameters()).dtype == torch.float16


def test_a_vae_of_its_own_takes_the_place_of_the_models(
    models: Mapping[str, Fixture], tmp_path: Path, family: str
) -> None:
    original = {
        key.removeprefix("first_stage_model."): tensor * 0.5
        for key, tensor in load_file(models[family].file).items()
        if key.startswith("first_stage_model.")
    }
    files = {
        "original": original,
        "below": {f"first_stage_model.{key}": tensor for key, tensor in original.items()},
    }
    theirs = load_file(models[family].folder / "vae" / "diffusion_pytorch_model.safetensors")
    files["diffusers"] = {key: tensor * 0.5 for key, tensor in theirs.items()}
    found = []
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        model = FAMILIES[family].load(
            ModelFiles(model=str(models[family].file), vae=str(tmp_path / f"{name}.safetensors")),
            torch.float32,
        )
        assert model.vae is not None
        found.append(model.vae.state_dict())
    for state in found:
        assert state.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key] * 0.5) for key, tensor in state.items())


def test_a_folder_may_be_the_vae(models: Mapping[str, Fixture]) -> None:
    """With its own scaling of latents: SDXL's, for SD1.5."""
    files = ModelFiles(model=str(models["sd15"].file), vae=str(models["sdxl"].folder / "vae"))
    vae: Any = FAMILIES["sd15"].load(files, torch.float32, parts=frozenset({"vae"})).vae
    assert vae.config.scaling_factor == 0.13025


def test_full_size_models_are_made_without_memory_at_their_published_size(family: str) -> None:
    """Parameters in millions: dependencies.md 2.2."""
    sizes = {"sd15": (859.5, 83.7, 123.1), "sdxl": (2567.5, 83.7, 123.1, 694.7)}[family]
    model = FAMILIES[family].blank()
    counted = [sum(each.numel() for each in part.parameters()) / 1e6 for part in all_parts(model)]
    assert [round(millions, 1) for millions in counted] == list(sizes)
    assert all(each.is_meta for part in all_parts(model) for each in part.parameters())
    full, ours = published(family), model.sites
    assert {(site.peft, site.shape) for site in ours.all} == {(site.peft, site.shape) for site in full.all}


def test_the_module_of_a_site_is_found_in_every_part(model: Loaded, family: str) -> None:
    assert {site.component for site in model.sites.all} == set(FAMILIES[family].components)
    assert {site.kohya for site in model.sites.all} == {site.kohya for site in published(family).all}
    for site in model.sites.all:
        weight = model.module(site).weight
        assert isinstance(weight, torch.Tensor)
        assert tuple(weight.shape) == site.shape


def test_a_site_of_a_part_that_is_not_loaded_has_no_module(models: Mapping[str, Fixture]) -> None:
    model = loaded(models["sd15"].file, "sd15", parts=frozenset({"text"}))
    assert {site.component for site in model.sites.all} == {"te1"}
    site = next(site for site in published("sd15").all if site.component == "unet")
    with pytest.raises(AttributeError):
        model.module(site)


def test_keys_that_are_no_part_of_the_model_make_no_difference(
    edited: Callable[..., Path], models: Mapping[str, Fixture]
) -> None:
    """Averaged weights of training, and positions that a merge has made fractions of."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model_ema.diffusion_modelinput_blocks00weight"] = torch.zeros(3)
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.full((1, 77), 0.5)

    ours, plain = loaded(edited("sd15", edit), "sd15"), loaded(models["sd15"].file, "sd15")
    texts = [each.encode_text(CAPTIONS)["hidden"] for each in (ours, plain)]
    assert torch.equal(*texts)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (f"{UNET}middle_block.1.proj_in.bias", WeightsIncomplete),
        (f"{UNET}input_blocks.1.0.in_layers.2.weight", WeightsIncomplete),
        ("first_stage_model.encoder.mid.attn_1.q.weight", WeightsIncomplete),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", WeightsIncomplete),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", WeightsIncomplete),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_what_is_missing(
    edited: Callable[..., Path], key: str, error: type[WeightsError]
) -> None:
    path = edited("sd15", lambda tensors: tensors.pop(key))
    with pytest.raises(error) as caught:
        loaded(path, "sd15")
    assert caught.value.where == str(path)
    assert caught.value.details["key"]


@pytest.mark.parametrize(
    ("prefix", "says"),
    [("first_stage_model.", "has no VAE"), ("cond_stage_model.", "has no text encoder")],
)
def test_a_file_without_a_part_is_refused_only_where_the_part_is_needed(
    edited: Callable[..., Path], prefix: str, says: str
) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.startswith(prefix)]:
            del tensors[key]

    path = edited("sd15", edit)
    with pytest.raises(WeightsIncomplete, match=says):
        loaded(path, "sd15")
    assert loaded(path, "sd15", parts=frozenset({"denoiser"})).denoiser is not None


def test_another_shape_or_an_unknown_module_is_refused(edited: Callable[..., Path]) -> None:
    key = f"{UNET}middle_block.1.norm.weight"

    def longer(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key] = torch.zeros(7)

    with pytest.raises(WeightsMismatch, match="is 7 and should be 48") as caught:
        loaded(edited("sd15", longer), "sd15")
    assert caught.value.details["key"] == key

    def stranger(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{UNET}middle_block.1.novelty.weight"] = torch.zeros(7)

    with pytest.raises(WeightsUnsupported, match="novelty"):
        loaded(edited("sd15", stranger), "sd15")


@pytest.mark.parametrize("bias", [torch.zeros(()), torch.zeros(100), torch.zeros(200)])
def test_a_fused_bias_of_another_shape_is_refused(edited: Callable[..., Path], bias: torch.Tensor) -> None:
    key = "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_bias"
    path = edited("sdxl", lambda tensors: tensors.update({key: bias}))
    with pytest.raises(WeightsMismatch) as caught:
        loaded(path, "sdxl", parts=frozenset({"text"}))
    assert caught.value.details["key"] == key


def test_a_norm_that_is_one_number_is_refused(edited: Callable[..., Path]) -> None:
    key = f"{UNET}middle_block.1.norm.weight"
    path = edited("sd15", lambda tensors: tensors.update({key: torch.zeros(())}))
    with pytest.raises(WeightsMismatch, match="a single number"):
        loaded(path, "sd15", parts=frozenset({"denoiser"}))


def test_fewer_tokens_than_bytes_are_refused(edited: Callable[..., Path]) -> None:
    key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"

    def cut(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key] = tensors[key][:500]

    with pytest.raises(WeightsMismatch, match="500 tokens"):
        loaded(edited("sd15", cut), "sd15")


def test_a_model_of_all_words_has_the_published_tokenizer(edited: Callable[..., Path]) -> None:
    key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    path = edited("sd15", lambda tensors: tensors.update({key: torch.zeros(49_408, 24)}))
    model = loaded(path, "sd15", parts=frozenset({"text"}))
    assert model.tokenizers["te1"].tokens("a photo of sks dog") == [320, 1125, 539, 48136, 1929]
    assert model.encode_text(["a photo of sks dog"])["hidden"].shape == (1, 77, 24)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        loaded(tmp_path / "nothing.safetensors", "sd15")
    with pytest.raises(FileMissing):
        loaded(tmp_path, "sd15")


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
@pytest.mark.parametrize("content", ["nothing", "[]", '{"block_out_channels": "wide", "vocab_size": "many"}'])
def test_a_folder_with_a_damaged_configuration_is_refused(
    models: Mapping[str, Fixture], tmp_path: Path, part: str, content: str
) -> None:
    folder = tmp_path / "model"
    for path in models["sd15"].folder.rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(models["sd15"].folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(path)
    (folder / part / "config.json").unlink()
    (folder / part / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(FileUnreadable, match=part):
        loaded(folder, "sd15")


def test_the_small_models_have_a_token_a_letter_as_their_own_tokenizer(models: Mapping[str, Fixture]) -> None:
    file, folder = (loaded(each, "sdxl", parts=frozenset({"text"})) for each in models["sdxl"][2:0:-1])
    for component in ("te1", "te2"):
        ours, theirs = file.tokenizers[component], folder.tokenizers[component]
        assert len(ours) == len(theirs) == SMALL["sdxl"].encoders[0].tokens
        assert ours.tokens("A cät, 猫!") == theirs.tokens("A cät, 猫!")
        assert (ours.start, ours.end, ours.pad) == (theirs.start, theirs.end, theirs.pad)
    assert (file.tokenizers["te1"].pad, file.tokenizers["te2"].pad) == (513, 0)


def all_parts(model: Loaded) -> list[nn.Module]:
    parts = [model.denoiser, model.vae, *model.text_encoders.values()]
    return [part for part in parts if part is not None]


def pipeline_text(
    pipeline: Any, captions: list[str], clip_skip: int | None = None
) -> dict[str, torch.Tensor]:
    if hasattr(pipeline, "text_encoder_2"):
        hidden, _, pooled, _ = pipeline.encode_prompt(
            captions, device="cpu", do_classifier_free_guidance=False, clip_skip=clip_skip
        )
        return {"hidden": hidden, "pooled": pooled}
    if clip_skip is None:
        return {"hidden": pipeline.encode_prompt(captions, "cpu", 1, False)[0]}
    # What the pipeline does then, for which diffusers 0.42 looks in the encoder of transformers before 5.6.
    rows = pipeline.tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
    layers = pipeline.text_encoder(rows, output_hidden_states=True).hidden_states
    return {"hidden": pipeline.text_encoder.final_layer_norm(layers[-(clip_skip + 1)])}


def pipeline_sizes(pipeline: Any, conditions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the pipeline makes them of its arguments."""
    width = pipeline.text_encoder_2.config.projection_dim
    numbers = [
        pipeline._get_add_time_ids(*each, dtype=torch.float32, text_encoder_projection_dim=width)
        for each in SIZES
    ]
    return {"text_embeds": conditions["pooled"], "time_ids": torch.cat(numbers)}
