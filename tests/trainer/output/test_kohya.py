"""The keys of the reference trainer, and its way to write values."""

import json
from typing import Any, Final

import pytest

from contract.methods.training.schedule import Schedule
from tests.trainer.output.parts import BASE, MOMENT, facts, settings, subset
from trainer.output import ModelFile, training_metadata
from trainer.output.kohya import _SCHEDULES

#: What the reference trainer wrote of the same training, commit 48d368fa, without keys that are of that
#: program, of the machine or of JSON.
_REFERENCE: Final = """
output_name=NAME · session_id=3949617319 · training_started_at=1795166465.2811587
training_finished_at=1795163764.4898555 · training_comment=None · sd_model_name=sd15_tiny.safetensors
sd_model_hash=6bcc7017 · base_model_version=sd_v1 · v2=False · network_module=networks.lora · network_dim=16
network_alpha=8 · network_dropout=None · learning_rate=0.0001 · unet_lr=0.0001 · text_encoder_lr=5e-05
lr_scheduler=cosine_with_restarts · lr_warmup_steps=2 · max_grad_norm=1.0 · steps=20 · epoch=3 · num_epochs=3
max_train_steps=20 · num_batches_per_epoch=8 · num_train_images=8 · num_reg_images=0
num_validation_images=0 · gradient_accumulation_steps=1 · gradient_checkpointing=False · mixed_precision=no
full_fp16=False · fp8_base=False · fp8_base_unet=False · lowram=False · cache_latents=True · clip_skip=None
max_token_length=225 · seed=42 · noise_offset=0.05 · noise_offset_random_strength=False
adaptive_noise_scale=None · multires_noise_iterations=None · multires_noise_discount=0.3
ip_noise_gamma=None · ip_noise_gamma_random_strength=False · zero_terminal_snr=False · min_snr_gamma=5.0
debiased_estimation=False · prior_loss_weight=1.0 · loss_type=l2 · huber_schedule=snr · huber_scale=1.0
huber_c=0.1 · scale_weight_norms=None · caption_dropout_rate=0.0 · caption_dropout_every_n_epochs=0
caption_tag_dropout_rate=0.0 · face_crop_aug_range=None · resize_interpolation=None · validation_seed=None
validation_split=0.0 · validate_every_n_epochs=None · validate_every_n_steps=None · max_validation_steps=None
"""
#: Keys whose values are another's to have.
_OTHERS: Final = (
    "sd_scripts_commit_hash new_sd_model_hash optimizer dataset_dirs tag_frequency datasets".split()
)


def _said(**changed: Any) -> dict[str, str]:
    return training_metadata(facts(**changed), MOMENT)


def test_the_keys_and_values_of_the_reference_trainer_are_there() -> None:
    said = _said()
    for pair in _REFERENCE.replace("\n", " · ").strip(" ·").split(" · "):
        key, _, value = pair.partition("=")
        assert said[f"ss_{key}"] == value, key
    assert all(f"ss_{key}" in said for key in _OTHERS)
    assert said["ss_new_sd_model_hash"] == BASE.sha256


def test_nothing_but_texts_is_written() -> None:
    assert all(type(key) is str and type(text) is str for key, text in _said().items())


def test_an_optimizer_is_its_class_and_its_arguments() -> None:
    assert _said()["ss_optimizer"] == "torch.optim.adamw.AdamW(betas=(0.9, 0.99),eps=1e-08,weight_decay=0.01)"
    own = settings(optimizer={"type": "custom", "import_name": "torch.optim.RAdam"})
    assert _said(own=own)["ss_optimizer"] == "torch.optim.radam.RAdam"


@pytest.mark.parametrize(
    ("schedule", "name", "warmup"),
    [
        ({"type": "constant"}, "constant", "0"),
        ({"type": "constant", "warmup_share": 0.25}, "constant_with_warmup", "5"),
        ({"type": "linear"}, "linear", "0"),
        ({"type": "cosine"}, "cosine", "0"),
        ({"type": "cosine", "end": 0.1}, "cosine_with_min_lr", "0"),
        ({"type": "polynomial", "power": 2.0}, "polynomial", "0"),
    ],
)
def test_schedules_have_the_names_they_have_there(schedule: Any, name: str, warmup: str) -> None:
    said = _said(own=settings(schedule=schedule))
    assert (said["ss_lr_scheduler"], said["ss_lr_warmup_steps"]) == (name, warmup)


def test_text_encoders_with_different_rates_are_a_list() -> None:
    rates = {"type": "adamw", "text_encoder_rate": 5e-5, "rates": {"te2": 1e-5}}
    assert _said(own=settings(optimizer=rates), family="sdxl")["ss_text_encoder_lr"] == "[5e-05, 1e-05]"
    assert _said(own=settings(), family="sdxl")["ss_text_encoder_lr"] == "5e-05"


def test_a_locon_says_its_convolutions_as_arguments() -> None:
    network = {"type": "locon", "conv_rank": 4, "conv_alpha": 0.5, "rank_dropout": 0.1, "dropout": 0.2}
    said = _said(own=settings(network=network))
    arguments = json.loads(said["ss_network_args"])
    assert arguments == {"conv_dim": "4", "conv_alpha": "0.5", "rank_dropout": "0.1"}
    assert said["ss_network_module"] == "networks.lora"
    assert said["ss_network_dropout"] == "0.2"
    assert "ss_network_args" not in _said()


def test_a_vae_of_its_own_is_named_and_hashed() -> None:
    said = _said(vae=ModelFile(name="vae.safetensors", sha256="ab" * 32, old="12345678"))
    assert (said["ss_vae_name"], said["ss_vae_hash"], said["ss_new_vae_hash"]) == (
        "vae.safetensors",
        "12345678",
        "ab" * 32,
    )
    assert "ss_vae_name" not in _said()


def test_of_a_folder_there_is_a_name_alone() -> None:
    said = _said(base=ModelFile(name="my-model", sha256="ab" * 32, is_folder=True))
    assert said["ss_sd_model_name"] == "my-model"
    assert not {"ss_sd_model_hash", "ss_new_sd_model_hash"} & said.keys()


@pytest.mark.parametrize(
    ("tables", "key", "value"),
    [
        ({"objective": {"weighting": "debiased"}}, "debiased_estimation", "True"),
        ({"objective": {"weighting": "debiased"}}, "min_snr_gamma", "None"),
        ({"objective": {"loss": {"type": "huber", "c": 0.2, "schedule": "constant"}}}, "huber_c", "0.2"),
        ({"objective": {"loss": {"type": "smooth_l1"}}}, "loss_type", "smooth_l1"),
        ({"objective": {}}, "noise_offset", "None"),
        ({"data": {"captions": {"max_tokens": 75}}}, "max_token_length", "None"),
        ({"caching": {"latents": "off"}}, "cache_latents", "False"),
        ({"metadata": {"comment": "a note"}}, "training_comment", "a note"),
    ],
)
def test_settings_are_said_as_they_are(tables: Any, key: str, value: str) -> None:
    assert _said(own=settings(**tables))[f"ss_{key}"] == value


def test_what_is_known_only_at_the_time_is_said() -> None:
    said = _said(compute="bf16", zero_snr=True, prediction="v", subsets=[subset(random_crop=True)])
    assert (said["ss_mixed_precision"], said["ss_zero_terminal_snr"]) == ("bf16", "True")
    assert said["ss_cache_latents"] == "False"


def test_every_schedule_of_the_contract_has_a_name() -> None:
    assert set(_SCHEDULES) == set(Schedule.__args__)
    assert all(isinstance(each(kind()), str) for kind, each in _SCHEDULES.items())
