"""The model that learns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import DependencyMissing, InvalidParams
from tests.trainer.run import runs
from trainer.run.learner import Learner, check_settings
from trainer.run.numbers import numbers_of
from trainer.run.parts import Base, Parts, base_of
from trainer.run.preflight import known_of


class Noisy(torch.optim.SGD):
    """An optimizer that somebody brings: it draws from the common source of random numbers."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        for group in self.param_groups:
            for each in group["params"]:
                each.add_(torch.randn_like(each), alpha=1e-4)


def _base(model: Path, folder: Path, **tables: Any) -> Base:
    asked = runs.request(model, folder, folder / "run", **tables)
    known = known_of(asked)
    return base_of(known.family, known.files, known.recognised, asked.settings)


def _learner(model: Path, folder: Path, **tables: Any) -> Learner:
    settings = runs.settings(model, **tables)
    parts = Parts(_base(model, folder, **tables), numbers_of(settings), lambda what: None)
    return Learner(settings, parts)


@pytest.fixture
def base(bases: Mapping[str, Path]) -> Path:
    return bases["sd15"]


def test_what_it_cannot_have_is_known_before_anything_is_loaded(base: Path, tmp_path: Path) -> None:
    tables: dict[str, Any] = {"objective": {"scale_v_loss": True}}
    with pytest.raises(InvalidParams, match="scale_v_loss"):
        check_settings(runs.settings(base, **tables), _base(base, tmp_path, **tables))
    tables = {"optimizer": {"type": "custom", "import_name": "not_there.Optimizer"}}
    with pytest.raises(DependencyMissing, match="not_there"):
        check_settings(runs.settings(base, **tables), _base(base, tmp_path, **tables))


def test_what_it_cannot_have_is_known_before_a_picture_is_encoded(
    base: Path, source: Path, tmp_path: Path
) -> None:
    watcher = runs.Recorder()
    asked = runs.request(base, source, tmp_path, objective={"scale_v_loss": True})
    with pytest.raises(InvalidParams, match="scale_v_loss"):
        runs.go(asked, watcher)
    assert watcher.phases == []


def test_rates_that_an_optimizer_keeps_to_itself_are_not_told(base: Path, tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "optimizer": {"type": "adafactor", "relative_step": True, "learning_rate": 1.0},
        "schedule": {"type": "constant"},
    }
    assert _learner(base, tmp_path, **tables).rates() == {}
    assert _learner(base, tmp_path).rates() == {"unet": 1e-4}


@pytest.mark.parametrize("before", ["fp32", "fp16"])
def test_goes_on_in_other_numbers_than_those_it_began_with(before: str, base: Path, tmp_path: Path) -> None:
    """As `auto` does on another device."""
    first = _learner(base, tmp_path, precision={"compute": before})
    now = _learner(base, tmp_path, precision={"compute": "fp16" if before == "fp32" else "fp32"})
    now.restore(first.state(), first.gradients(), "a checkpoint")
    assert now.scaler.get_scale() == (65536.0 if now.scaler.is_enabled() else 1.0)


def test_overflows_are_part_of_fp16_until_no_scale_helps(base: Path, tmp_path: Path) -> None:
    assert not _learner(base, tmp_path).skips_overflows
    learner = _learner(base, tmp_path, precision={"compute": "fp16"})
    assert learner.skips_overflows
    for _ in range(40):
        learner.scaler.scale(torch.ones(()))
        for each in learner.parameters:
            each.grad = torch.full_like(each, float("inf"))
        learner.step(0, 1)
    assert not learner.skips_overflows


def test_two_runs_of_an_optimizer_that_draws_numbers_are_the_same(
    base: Path, source: Path, tmp_path: Path
) -> None:
    optimizer = {"type": "custom", "import_name": f"{__name__}.Noisy"}
    asked = runs.request(base, source, tmp_path, optimizer=optimizer)
    runs.go(asked)
    first = runs.content(asked.output)
    torch.rand(7)
    runs.go(runs.again(asked))
    assert runs.content(asked.output) == first


def test_activations_that_are_computed_again_change_nothing(
    bases: Mapping[str, Path], family: str, source: Path, tmp_path: Path
) -> None:
    found = []
    for again in (False, True):
        asked = runs.request(
            bases[family],
            source,
            tmp_path / str(again),
            memory={"gradient_checkpointing": again},
            optimizer={"type": "adamw", "text_encoder_rate": 1e-3},
            network={"dropout": 0.1},
        )
        runs.go(asked)
        found.append(runs.content(asked.output)[1])
    assert found[0] == found[1]


def test_a_network_is_taken_off_its_model(base: Path, tmp_path: Path) -> None:
    learner = _learner(base, tmp_path)
    denoiser = learner.loaded.denoiser
    assert denoiser is not None
    assert any("forward" in each.__dict__ for each in denoiser.modules())
    learner.close()
    assert not any("forward" in each.__dict__ for each in denoiser.modules())
