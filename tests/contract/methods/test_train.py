"""`train`: what its tables say of each other."""

from typing import Any

import pytest

from contract.errors import InvalidParams
from contract.methods.control import ControlParams
from contract.methods.train import (
    ACTIONS,
    SavedFile,
    TrainSettings,
)
from contract.methods.train_file import TrainFile
from contract.reference import settings_page
from contract.validation import decode

SCHEDULE_FREE = ("adamw_schedule_free", "sgd_schedule_free", "radam_schedule_free")
LEAST: dict[str, Any] = {"model": {"base": {"path": "/a.safetensors"}}, "training": {"steps": 100}}


def _settings(**tables: Any) -> TrainSettings:
    return decode(LEAST | tables, TrainSettings)


def _problems(**tables: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidParams) as caught:
        _settings(**tables)
    return [(each["where"], each["message"]) for each in caught.value.details["problems"]]


def test_a_model_and_a_length_are_enough() -> None:
    settings = _settings()
    assert settings.caches_latents()
    assert settings.caches_text
    assert not settings.trains_text_encoders


def test_latents_cannot_be_cached_where_pictures_are_cropped_randomly() -> None:
    assert _problems(caching={"latents": "on"}, data={"random_crop": True}) == [
        ("$.caching.latents", "a random crop has other latents in every epoch; needs `auto` or `off`")
    ]


def test_latents_cannot_be_cached_where_pictures_of_one_subset_are_cropped_randomly() -> None:
    subsets = [{"name": "a"}, {"name": "b", "random_crop": True}]
    assert [where for where, _ in _problems(caching={"latents": "on"}, subsets=subsets)] == [
        "$.caching.latents"
    ]


def test_what_is_cropped_randomly_is_not_cached_and_the_rest_is() -> None:
    subsets = [{"name": "a"}, {"name": "b", "random_crop": True}, {"name": "c", "random_crop": False}]
    settings = _settings(subsets=subsets)
    assert [settings.caches_latents(each) for each in (None, *settings.subsets)] == [True, True, False, True]
    settings = _settings(subsets=subsets, data={"random_crop": True})
    assert [settings.caches_latents(each) for each in (None, *settings.subsets)] == [
        False,
        False,
        False,
        True,
    ]
    assert not _settings(caching={"latents": "off"}).caches_latents()


def test_embeddings_cannot_be_cached_where_their_encoder_is_trained() -> None:
    optimizer = {"type": "adamw", "text_encoder_rate": 1e-5}
    assert _problems(caching={"text": "on"}, optimizer=optimizer) == [
        (
            "$.caching.text",
            "a text encoder that is trained has other embeddings in every step; needs `auto` or `off`",
        )
    ]


def test_embeddings_are_cached_where_no_encoder_is_trained() -> None:
    assert not _settings(optimizer={"type": "adamw", "rates": {"te1": 1e-5}}).caches_text
    assert not _settings(caching={"text": "off"}).caches_text


def test_embeddings_can_be_cached_where_captions_vary() -> None:
    captions = {"shuffle": True, "tag_dropout": 0.1, "caption_dropout": 0.1}
    assert _settings(caching={"text": "on"}, data={"captions": captions}).caches_text


@pytest.mark.parametrize("kind", SCHEDULE_FREE)
def test_schedule_free_has_no_schedule(kind: str) -> None:
    words = f"`{kind}` needs no schedule; choose `constant`"
    assert _problems(optimizer={"type": kind}) == [("$.schedule.type", words)]
    assert _settings(optimizer={"type": kind}, schedule={"type": "constant"})


@pytest.mark.parametrize("kind", SCHEDULE_FREE)
def test_schedule_free_may_warm_up(kind: str) -> None:
    assert _settings(optimizer={"type": kind}, schedule={"type": "constant", "warmup_share": 0.1})


def test_a_relative_step_is_a_schedule_already() -> None:
    optimizer = {"type": "adafactor", "relative_step": True}
    assert [where for where, _ in _problems(optimizer=optimizer)] == ["$.schedule.type"]
    assert _problems(optimizer=optimizer, schedule={"type": "constant", "warmup_steps": 5}) == [
        (
            "$.schedule.warmup_steps",
            "with `optimizer.relative_step` the rate is chosen already; leave it out",
        )
    ]
    assert _settings(optimizer=optimizer, schedule={"type": "constant"})


def test_a_warm_up_is_shorter_than_the_training() -> None:
    assert _problems(schedule={"type": "cosine", "warmup_steps": 100}) == [
        ("$.schedule.warmup_steps", "must be below `training.steps`, 100")
    ]
    assert _settings(schedule={"type": "cosine", "warmup_steps": 99})


def test_a_subset_is_named_once() -> None:
    subsets = [{"name": "a"}, {"name": "b"}, {"name": "a", "repeats": 2}]
    assert _problems(subsets=subsets) == [("$.subsets[2].name", "`a` is a subset already")]


def test_scaling_the_loss_of_v_needs_a_model_that_predicts_v() -> None:
    model = LEAST["model"] | {"prediction": "epsilon"}
    assert _problems(model=model, objective={"scale_v_loss": True}) == [
        (
            "$.objective.scale_v_loss",
            "needs a model that predicts `v`, and `model.prediction` is `epsilon`",
        )
    ]
    assert _settings(objective={"scale_v_loss": True})


def test_sd15_has_no_second_text_encoder() -> None:
    model = LEAST["model"] | {"family": "sd15"}
    assert _problems(model=model, optimizer={"type": "adamw", "rates": {"te2": 1e-5}}) == [
        ('$.optimizer.rates["te2"]', "an `sd15` model has one text encoder, `te1`")
    ]


def test_every_problem_is_named_at_once() -> None:
    found = _problems(
        training={}, network={"type": "lora", "rank": 0}, data={"captions": {"max_tokens": 77}}, nothing=1
    )
    assert [where for where, _ in found] == [
        "$.network.rank",
        "$.data.captions.max_tokens",
        "$.training.epochs",
        "$.nothing",
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"training": {"batch_size": 4}},
        {"sampling": {"every_epochs": 1}},
        {"sampling": {"prompts": ["a"]}},
        {"model": {"prediction": "v"}},
    ],
)
def test_what_a_preset_may_leave_out_is_called_required(part: dict[str, Any]) -> None:
    """Presets are parts of settings: they are refused for everything else that is wrong with them."""
    with pytest.raises(InvalidParams) as caught:
        decode(part, TrainSettings)
    assert all(each["message"].startswith("is required") for each in caught.value.details["problems"])


def test_every_order_is_one_that_control_takes() -> None:
    for action in ACTIONS:
        assert decode({"job_id": "a", "action": action}, ControlParams).action == action


def test_the_reference_page_has_every_table_and_every_field() -> None:
    page = settings_page("train", TrainFile)
    for name in TrainFile.__struct_fields__:
        assert f"| `{name}` |" in page
    assert '\n## `Prodigy`\n\n`type = "prodigy"`. ' in page
    assert "| `rank` | `16` | int, from 1, to 4096 | basic |" in page
    assert '| `optimizer` | `{"type":"adamw"}` |' in page


def test_a_saved_file_of_a_step_has_no_epoch() -> None:
    assert SavedFile(file="/a", bytes=1, sha256="0" * 64, step=10).epoch is None
