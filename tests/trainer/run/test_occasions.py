"""When a run samples, saves and keeps checkpoints."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.run import runs
from trainer.run.occasions import Occasions, steps_of

MODEL = Path("/model.safetensors")
PROMPTS = {"prompts": ["a cat"]}


def _occasions(per_epoch: int = 4, total: int = 12, **tables: Any) -> Occasions:
    return Occasions(runs.settings(MODEL, **tables), per_epoch, total)


def _steps(asked: Any, total: int = 12) -> list[int]:
    return [step for step in range(total + 1) if asked(step)]


def test_files_of_steps_and_epochs_are_made_on_the_way_and_not_at_the_end() -> None:
    by_step = _occasions(saving={"every_steps": 3, "every_epochs": 0})
    assert _steps(by_step.saves_step)[1:] == [3, 6, 9]
    assert _steps(by_step.saves_epoch)[1:] == []
    by_epoch = _occasions(saving={"every_steps": 0, "every_epochs": 2}, total=20)
    assert [step for step in range(1, 21) if by_epoch.saves_epoch(step)] == [8, 16]


def test_samples_are_made_at_the_start_only_where_that_is_wanted() -> None:
    assert _steps(_occasions(sampling={**PROMPTS, "every_epochs": 1}).samples) == [0, 4, 8, 12]
    late = _occasions(sampling={**PROMPTS, "every_steps": 5, "at_start": False})
    assert _steps(late.samples) == [5, 10]
    assert _steps(_occasions().samples) == []


def test_checkpoints_are_kept_by_steps_and_by_epochs() -> None:
    both = _occasions(checkpoints={"every_steps": 5, "every_epochs": 1})
    assert [step for step in range(1, 13) if both.keeps(step)] == [4, 5, 8, 10, 12]
    assert not any(_occasions().keeps(step) for step in range(1, 13))


def test_an_epoch_is_done_after_its_last_step() -> None:
    occasions = _occasions(per_epoch=4)
    assert [occasions.epoch(step) for step in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]
    assert [occasions.ends_epoch(step) for step in (3, 4, 5)] == [False, True, False]


@pytest.mark.parametrize(("training", "steps"), [({"steps": 7}, 7), ({"steps": None, "epochs": 3}, 12)])
def test_the_length_is_said_in_steps_or_in_epochs(training: dict[str, Any], steps: int) -> None:
    assert steps_of(runs.settings(MODEL, training=training), per_epoch=4) == steps
