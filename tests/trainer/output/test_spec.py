"""ModelSpec: what it is, for programs that show and sort files of weights."""

from typing import Any

import msgspec
import pytest

from tests.trainer.output.parts import MOMENT, facts, model, settings
from trainer.output import training_metadata


def _said(**changed: Any) -> dict[str, str]:
    said = training_metadata(facts(**changed), MOMENT)
    return {key.partition(".")[2]: text for key, text in said.items() if key.startswith("modelspec.")}


def test_it_is_what_the_reference_trainer_says() -> None:
    assert _said() == {
        "sai_model_spec": "1.0.1",
        "architecture": "stable-diffusion-v1/lora",
        "implementation": "diffusers",
        "implementation_version": "lorakeet/0.1.0",
        "title": "NAME",
        "date": "2026-11-20T08:36:04Z",
        "resolution": "512x512",
        "prediction_type": "epsilon",
    }


@pytest.mark.parametrize(
    ("naming", "implementation"),
    [("kohya", "https://github.com/Stability-AI/generative-models"), ("peft", "diffusers")],
)
def test_sdxl_has_its_own_architecture_and_the_names_of_who_made_it(naming: str, implementation: str) -> None:
    said = _said(own=settings(saving={"naming": naming}), family="sdxl", size=1024, prediction="v")
    assert said["architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert said["implementation"] == implementation
    assert (said["resolution"], said["prediction_type"]) == ("1024x1024", "v")


def test_what_people_say_of_it_is_there() -> None:
    own = {
        "title": "A title",
        "author": "Ann",
        "description": "For ink.",
        "license": "CC0-1.0",
        "usage_hint": "0.8",
        "trigger_phrase": "inkwash",
        "tags": ["ink", "style"],
    }
    said = _said(own=settings(metadata=own))
    assert {key: said[key] for key in own} == own | {"tags": "ink, style"}


def test_a_part_of_the_noise_and_a_layer_of_the_text_encoder_are_said() -> None:
    own = msgspec.structs.replace(
        settings(objective={"min_timestep": 100, "max_timestep": 900}), model=model(clip_skip=2)
    )
    said = _said(own=own)
    assert (said["timestep_range"], said["encoder_layer"]) == ("100,900", "2")
