"""What of a run may change while it goes on."""

from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidParams
from tests.trainer.run import runs
from trainer.run.same import check_same, lasting

MODEL = Path("/model.safetensors")

FREE: list[dict[str, Any]] = [
    {"training": {"steps": 9}},
    {"training": {"steps": None, "epochs": 2}},
    {"training": {"stop_after": 1}},
    {"checkpoints": {"every_steps": 1}},
    {"saving": {"dtype": "bf16"}},
    {"sampling": {"prompts": ["a cat"], "every_steps": 2}},
    {"metadata": {"comment": "another"}},
    {"logging": {"every_steps": 5}},
    {"memory": {"gradient_checkpointing": True}},
    {"caching": {"text_batch": 2}},
    # Whether it is the same model, its numbers say.
    {"model": {"base": {"path": "/moved.safetensors"}}},
]
LASTING: list[tuple[str, dict[str, Any]]] = [
    ("training.seed", {"training": {"seed": 1}}),
    ("training.batch_size", {"training": {"batch_size": 2}}),
    ("training.accumulation", {"training": {"accumulation": 2}}),
    ("network.rank", {"network": {"rank": 8}}),
    ("network.type", {"network": {"type": "locon"}}),
    ("optimizer.type", {"optimizer": {"type": "lion"}}),
    ("optimizer.rates.te1", {"optimizer": {"type": "adamw", "rates": {"te1": 0.5}}}),
    ("schedule.type", {"schedule": {"type": "linear"}}),
    ("caching.caption_variants", {"caching": {"caption_variants": 3}}),
    ("caching.dtype", {"caching": {"dtype": "bf16"}}),
    ("data.flip", {"data": {"flip": True}}),
    ("precision.compute", {"precision": {"compute": "bf16"}}),
    ("objective.noise_offset", {"objective": {"noise_offset": 0.1}}),
    ("subsets", {"subsets": [{"name": "2_cat", "repeats": 5}]}),
]


@pytest.mark.parametrize("change", FREE, ids=str)
def test_what_changes_when_something_is_done_may_change(change: dict[str, Any]) -> None:
    before, now = runs.settings(MODEL), runs.settings(MODEL, **change)
    check_same(before, now)
    assert lasting(before) == lasting(now)


@pytest.mark.parametrize(("field", "change"), LASTING, ids=[field for field, _ in LASTING])
def test_what_changes_the_result_is_refused_by_the_name_of_its_field(
    field: str, change: dict[str, Any]
) -> None:
    before, now = runs.settings(MODEL), runs.settings(MODEL, **change)
    with pytest.raises(InvalidParams) as refused:
        check_same(before, now)
    assert refused.value.where == f"$.params.settings.{field}"
    assert refused.value.details == {"field": field}


def test_says_what_it_was_and_what_it_is_now() -> None:
    before, now = runs.settings(MODEL), runs.settings(MODEL, data={"resolution": 128})
    with pytest.raises(InvalidParams, match="`data.resolution`: it began with `64`, now it is `128`"):
        check_same(before, now)
