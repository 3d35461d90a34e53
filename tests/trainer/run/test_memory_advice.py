"""What is said to a run whose memory ran out."""

import copy
import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from contract.errors import InvalidParams, OutOfMemory
from contract.methods.train import TrainSettings
from contract.methods.training.layers import layered
from contract.validation import decode
from trainer.run.memory_advice import advice, shortage

PHASES = ("load", "latents", "text", "sample", "train")
LEAST: dict[str, Any] = {"model": {"base": {"path": "/a.safetensors"}}, "training": {"steps": 100}}


def _settings(**tables: Any) -> TrainSettings:
    return decode(layered(TrainSettings, LEAST, tables), TrainSettings)


def _changes(settings: TrainSettings, phase: str = "train", **known: Any) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = advice(settings, phase, **known).details["changes"]
    return changes


def _changed(settings: TrainSettings, *changes: Mapping[str, Any]) -> TrainSettings:
    """The settings with these fields put into their tables."""
    table = msgspec.to_builtins(settings)
    for name, value in (field for change in changes for field in change.items()):
        *above, last = name.split(".")
        inner = table
        for each in above:
            inner = inner[each]
        inner[last] = copy.deepcopy(value)
    return decode(table, TrainSettings)


def _product(settings: TrainSettings) -> int:
    return settings.training.batch_size * settings.training.accumulation


def test_what_costs_least_comes_first() -> None:
    settings = _settings(
        memory={"gradient_checkpointing": False},
        training={"batch_size": 4, "accumulation": 3},
        caching={"latents": "off", "text": "off"},
        network={"type": "lora", "rank": 128, "alpha": 64.0},
        optimizer={"type": "adamw", "learning_rate": 2e-4},
    )
    assert _changes(settings, size=1024, compute="fp32") == [
        {"memory.gradient_checkpointing": True},
        {"training.batch_size": 2, "training.accumulation": 6},
        {"caching.text": "auto"},
        {"caching.latents": "auto"},
        {"precision.compute": "bf16"},
        {"optimizer.type": "adamw8bit", "optimizer.learning_rate": 2e-4},
        {"network.rank": 64, "network.alpha": 32.0},
        {"data.resolution": 768},
    ]


def test_the_hint_names_fields_with_their_values_and_what_they_cost() -> None:
    settings = _settings(training={"batch_size": 2}, memory={"gradient_checkpointing": False})
    assert advice(settings).hint == (
        "Try, in this order: `memory.gradient_checkpointing = true` (about a third slower, the same result); "
        "`training.batch_size = 1` and `training.accumulation = 2` (as many pictures a step, somewhat "
        "slower)."
    )


def test_where_nothing_is_left_to_change_it_says_so() -> None:
    said = advice(_settings(), "train", size=256, compute="bf16")
    assert said.details == {"phase": "train", "changes": []}
    assert said.hint == "Use a device with more memory, or stop other programs that use this one."


def test_the_error_has_both_and_says_what_the_run_was_doing() -> None:
    error = shortage(_settings(), "latents", size=1024, compute="fp32")
    assert isinstance(error, OutOfMemory) and not error.retryable
    assert error.message == "Memory ran out while pictures were encoded."
    assert error.details["changes"] == [{"precision.vae": "bf16"}, {"data.resolution": 768}]
    assert error.hint is not None and '`precision.vae = "bf16"`' in error.hint
    assert shortage(_settings(), "save").message == "Memory ran out."


def test_a_learning_rate_stays_where_a_file_names_another_optimizer() -> None:
    file = LEAST | {
        "optimizer": {"type": "adamw", "learning_rate": 5e-5, "eps": 1e-7},
        "network": {"rank": 64},
    }
    changes = _changes(decode(layered(TrainSettings, file), TrainSettings))
    (change,) = (each for each in changes if "optimizer.type" in each)
    above = {name.partition(".")[2]: value for name, value in change.items()}
    optimizer = decode(layered(TrainSettings, file, {"optimizer": above}), TrainSettings).optimizer
    assert optimizer.__struct_config__.tag == "adamw8bit"
    assert (optimizer.learning_rate, optimizer.arguments_of_class()["eps"]) == (5e-5, 1e-7)


def test_text_encoders_are_the_last_but_one_to_go() -> None:
    optimizer = {"type": "adamw", "text_encoder_rate": 1e-5, "rates": {"te2": 2e-5}}
    settings = _settings(optimizer=optimizer, caching={"text": "off"})
    change, _ = _changes(settings, size=1024)
    assert change == {
        "optimizer.text_encoder_rate": 0.0,
        "optimizer.rates.te2": 0.0,
        "caching.text": "auto",
    }
    assert _changed(settings, change).caches_text


def test_a_network_of_text_encoders_alone_keeps_them() -> None:
    settings = _settings(optimizer={"type": "adamw", "learning_rate": 0.0, "text_encoder_rate": 1e-5})
    assert _changes(settings) == []


def test_a_network_that_starts_from_a_file_keeps_its_rank() -> None:
    network = {"type": "lora", "rank": 64, "start_from": {"path": "/l.safetensors"}}
    assert [list(each) for each in _changes(_settings(network=network))] == [["optimizer.type"]]


def test_a_prompt_of_its_own_size_is_not_named_smaller_than_models_can_paint() -> None:
    sampling = {"prompts": ["a"], "every_steps": 10, "width": 1024, "height": 256}
    assert _changes(_settings(sampling=sampling), "sample", size=1024, compute="bf16") == [
        {"sampling.width": 768}
    ]


def _drawn(random: random.Random) -> TrainSettings:
    """Settings by chance, where memory is concerned; again where they contradict each other."""

    def one(*values: Any) -> Any:
        return random.choice(values)

    while True:
        tables = {
            "network": {"type": one("lora", "locon"), "rank": one(1, 8, 17, 64), "alpha": one(1.0, 8.0)},
            "subsets": one([], [{"name": "a", "random_crop": one(None, True, False)}]),
            "data": {
                "resolution": one(None, 64, 256, 320, 768, 1000),
                "random_crop": one(True, False),
                "buckets": {"upscale": one(True, False), "enabled": one(True, False), "step": one(8, 64)},
            },
            "caching": {
                "latents": one("auto", "on", "off"),
                "text": one("auto", "on", "off"),
                "latent_batch": one(1, 3, 8),
                "text_batch": one(1, 16),
            },
            "precision": {"compute": one("auto", "fp32", "bf16"), "vae": one("auto", "fp32", "bf16")},
            "memory": {"gradient_checkpointing": one(True, False)},
            "training": {"batch_size": one(1, 2, 7, 9, 1024), "accumulation": one(1, 5, 4096)},
            "optimizer": {
                "type": one("adamw", "lion", "prodigy", "adafactor"),
                "text_encoder_rate": one(0.0, 1.0, 1e-5),
                "rates": one({}, {"te1": 1e-5}, {"unet": 1e-5, "te2": 0.0}),
            },
            "sampling": one({}, {"prompts": ["a"], "every_steps": 1, "width": one(64, 1024)}),
        }
        try:
            return _settings(**tables)
        except InvalidParams:
            continue


@pytest.mark.parametrize("seed", range(60))
def test_every_change_leaves_settings_that_are_valid_and_differ(seed: int) -> None:
    settings = _drawn(random.Random(seed))
    for phase in PHASES:
        changes = _changes(settings, phase, size=settings.data.resolution or 1024)
        for index, change in enumerate(changes):
            alone = _changed(settings, change)
            assert alone != settings
            assert _product(alone) == _product(settings)
            assert _changed(settings, *changes[: index + 1]) != _changed(settings, *changes[:index])


@pytest.mark.parametrize("phase", PHASES)
def test_who_does_as_told_comes_to_an_end(phase: str) -> None:
    settings = _drawn(random.Random(7))
    for _ in range(100):
        size = settings.data.resolution or 1024
        changes = _changes(settings, phase, size=size, compute=_computed(settings))
        if not changes:
            return
        settings = _changed(settings, *changes)
    raise AssertionError("there is always something left to change")


def _computed(settings: TrainSettings) -> Any:
    return "fp32" if settings.precision.compute == "auto" else settings.precision.compute
