"""How it was trained, in the keys of the reference trainer (kohya-ss/sd-scripts, `train_network.py`).

Values are as its are: what Python makes of a number, a truth or nothing. What it can do and we do not is said
as it says it, so that who compares two files finds the same keys in both.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from contract.methods.train import TrainSettings
from contract.methods.training.components import TEXT_ENCODERS
from contract.methods.training.network import LoconNetwork
from contract.methods.training.network import Network as NetworkSettings
from contract.methods.training.schedule import (
    Constant,
    Cosine,
    CosineWithRestarts,
    Linear,
    Polynomial,
    Schedule,
)
from trainer.families import FAMILIES
from trainer.networks.kinds import KINDS
from trainer.optimizers import kind_of
from trainer.output.facts import ModelFile, Moment, TrainingFacts
from trainer.weights.metadata import ARCHITECTURES, number

#: What it can do and we do not; and the version of a trainer that this is not.
_NEVER: Final[Mapping[str, object]] = {
    "sd_scripts_commit_hash": "(not sd-scripts)",
    "v2": False,
    "num_reg_images": 0,
    "num_validation_images": 0,
    "full_fp16": False,
    "fp8_base": False,
    "fp8_base_unet": False,
    "lowram": False,
    "noise_offset_random_strength": False,
    "adaptive_noise_scale": None,
    "multires_noise_iterations": None,
    "multires_noise_discount": 0.3,
    "ip_noise_gamma": None,
    "ip_noise_gamma_random_strength": False,
    "prior_loss_weight": 1.0,
    "scale_weight_norms": None,
    "caption_dropout_every_n_epochs": 0,
    "face_crop_aug_range": None,
    "resize_interpolation": None,
    "validation_seed": None,
    "validation_split": 0.0,
    "validate_every_n_epochs": None,
    "validate_every_n_steps": None,
    "max_validation_steps": None,
}
#: How it calls the types that are computed in.
_PRECISIONS: Final = {"fp32": "no"}
#: Tokens of one chunk, of which it says nothing.
_ONE_CHUNK: Final = 75
#: How it calls schedules; two have other names where they are a little different.
_SCHEDULES: Final[Mapping[type[Schedule], Callable[[Any], str]]] = {
    Constant: lambda own: "constant_with_warmup" if own.warmup_steps or own.warmup_share else "constant",
    Linear: lambda _: "linear",
    Cosine: lambda own: "cosine_with_min_lr" if own.end else "cosine",
    CosineWithRestarts: lambda _: "cosine_with_restarts",
    Polynomial: lambda _: "polynomial",
}


def of_training(facts: TrainingFacts, moment: Moment) -> dict[str, str]:
    """The keys, each beginning with `ss_`, but those of the pictures."""
    said = {
        **_NEVER,
        **_of_run(facts, moment),
        **_of_models(facts),
        **_of_network(facts.settings.network),
        **_of_optimizer(facts),
        **_of_computing(facts),
        **_of_objective(facts),
    }
    return {f"ss_{key}": str(value) for key, value in said.items()}


def _of_run(facts: TrainingFacts, moment: Moment) -> dict[str, object]:
    return {
        "output_name": facts.name,
        "session_id": facts.session,
        "training_started_at": facts.started_at,
        "training_finished_at": moment.at,
        "training_comment": facts.settings.metadata.comment,
        "steps": moment.step,
        "epoch": moment.epoch,
        "num_epochs": facts.epochs,
        "max_train_steps": facts.steps,
        "seed": facts.settings.training.seed,
    }


def _of_models(facts: TrainingFacts) -> dict[str, object]:
    said: dict[str, object] = {
        "base_model_version": ARCHITECTURES[facts.family].base,
        **_of_model(facts.base, "sd_model"),
    }
    return said if facts.vae is None else said | _of_model(facts.vae, "vae")


def _of_model(file: ModelFile, key: str) -> dict[str, object]:
    """Its name and, of a file, its hashes."""
    hashes = {} if file.is_folder else {f"{key}_hash": file.old, f"new_{key}_hash": file.sha256}
    return {f"{key}_name": file.name, **{name: value for name, value in hashes.items() if value is not None}}


def _of_network(network: NetworkSettings) -> dict[str, object]:
    arguments = {"rank_dropout": str(network.rank_dropout)} if network.rank_dropout else {}
    if isinstance(network, LoconNetwork):
        arguments |= {"conv_dim": str(network.conv_rank), "conv_alpha": number([network.conv_alpha])}
    said: dict[str, object] = {
        "network_module": KINDS[type(network)].module,
        "network_dim": network.rank,
        "network_alpha": number([network.alpha]),
        "network_dropout": network.dropout or None,
    }
    return said | ({"network_args": json.dumps(arguments)} if arguments else {})


def _of_optimizer(facts: TrainingFacts) -> dict[str, object]:
    optimizer, schedule = facts.settings.optimizer, facts.settings.schedule
    kind = kind_of(optimizer).load()
    arguments = ",".join(f"{name}={value}" for name, value in optimizer.arguments_of_class().items())
    return {
        "learning_rate": optimizer.learning_rate,
        "unet_lr": optimizer.rate_of("unet"),
        "text_encoder_lr": _text_rates(facts),
        "optimizer": f"{kind.__module__}.{kind.__qualname__}" + (f"({arguments})" if arguments else ""),
        "lr_scheduler": _SCHEDULES[type(schedule)](schedule),
        "lr_warmup_steps": schedule.warmup(facts.steps),
        "max_grad_norm": facts.settings.training.max_grad_norm,
    }


def _text_rates(facts: TrainingFacts) -> float | list[float]:
    """One where all of the model have the same."""
    there = FAMILIES[facts.family].components
    rates = [facts.settings.optimizer.rate_of(each) for each in TEXT_ENCODERS if each in there]
    return rates[0] if len(set(rates)) == 1 else rates


def _of_computing(facts: TrainingFacts) -> dict[str, object]:
    settings = facts.settings
    return {
        "mixed_precision": _PRECISIONS.get(facts.compute, facts.compute),
        "gradient_checkpointing": settings.memory.gradient_checkpointing,
        "gradient_accumulation_steps": settings.training.accumulation,
        "cache_latents": _caches_latents(facts),
        "clip_skip": settings.model.clip_skip,
        "max_token_length": _max_tokens(settings),
    }


def _caches_latents(facts: TrainingFacts) -> bool:
    """Whether it does of any subset."""
    return facts.settings.caching.latents != "off" and not all(each.random_crop for each in facts.subsets)


def _max_tokens(settings: TrainSettings) -> int | None:
    tokens = settings.data.captions.max_tokens
    return None if tokens == _ONE_CHUNK else tokens


def _of_objective(facts: TrainingFacts) -> dict[str, object]:
    objective, captions = facts.settings.objective, facts.settings.data.captions
    # Losses without these say what the others begin with, as the reference trainer does.
    loss = {"c": 0.1, "schedule": "snr", "scale": 1.0} | msgspec.structs.asdict(objective.loss)
    return {
        "noise_offset": objective.noise_offset or None,
        "zero_terminal_snr": facts.zero_snr,
        "min_snr_gamma": objective.min_snr_gamma if objective.weighting == "min_snr" else None,
        "debiased_estimation": objective.weighting == "debiased",
        "loss_type": objective.loss.__struct_config__.tag,
        "huber_c": loss["c"],
        "huber_schedule": loss["schedule"],
        "huber_scale": loss["scale"],
        "caption_dropout_rate": captions.caption_dropout,
        "caption_tag_dropout_rate": captions.tag_dropout,
    }
