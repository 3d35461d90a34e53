"""The parts of a model, loaded when they are needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.run import runs
from trainer.families.base import Recognised
from trainer.run.numbers import numbers_of
from trainer.run.parts import Base, Parts, base_of
from trainer.run.preflight import known_of


def _base(model: Path, folder: Path, **tables: Any) -> Base:
    known = known_of(runs.request(model, folder, folder / "run", model=tables))
    settings = runs.settings(model, model=tables)
    return base_of(known.family, known.files, known.recognised, settings)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def parts(bases: Mapping[str, Path], tmp_path: Path, told: list[str]) -> Parts:
    numbers = numbers_of(runs.settings(bases["sd15"]))
    return Parts(_base(bases["sd15"], tmp_path), numbers, told.append)


def test_a_part_is_loaded_once_and_let_go_of(parts: Parts, told: list[str]) -> None:
    assert parts.vae() is parts.vae()
    assert parts.vae().denoiser is None
    assert told == ["vae"]
    parts.release("vae")
    assert not parts.is_loaded("vae")
    parts.release("vae")
    assert parts.vae().vae is not None
    assert told == ["vae", "vae"]


def test_text_encoders_that_learn_are_loaded_with_the_denoiser(parts: Parts, told: list[str]) -> None:
    model = parts.model(with_text=True)
    assert parts.text() is model
    assert told == ["denoiser, text"]
    # They are no part that was loaded alone.
    parts.release("text")
    assert parts.is_loaded("text")


def test_the_denoiser_alone_has_no_text_encoders(parts: Parts) -> None:
    model = parts.model(with_text=False)
    assert model.text_encoders == {}
    assert not any(each.requires_grad for each in (model.denoiser or torch.nn.Module()).parameters())


@pytest.mark.parametrize(
    ("found", "settings", "expected"),
    [
        (("v", True), {}, ("v", True)),
        (("v", True), {"prediction": "epsilon"}, ("epsilon", False)),
        (("v", True), {"zero_terminal_snr": "off"}, ("v", False)),
        (("epsilon", False), {"prediction": "v"}, ("v", False)),
        (("epsilon", False), {"prediction": "v", "zero_terminal_snr": "on"}, ("v", True)),
    ],
    ids=str,
)
def test_what_settings_say_of_a_model_comes_before_what_it_says(
    found: tuple[Any, bool],
    settings: dict[str, str],
    expected: tuple[str, bool],
    bases: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    known = known_of(runs.request(bases["sd15"], tmp_path, tmp_path / "run"))
    recognised = Recognised("sd15", *found, [])
    base = base_of(known.family, known.files, recognised, runs.settings(bases["sd15"], model=settings))
    assert (base.recognised.prediction, base.recognised.zero_snr) == expected
