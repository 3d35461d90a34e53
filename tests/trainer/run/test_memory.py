"""What a run leaves in memory: nothing of its model, so that the next one in the process has room."""

import gc
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import JobCanceled, OutOfMemory
from contract.methods.train import TrainMetrics
from tests.trainer.run import runs
from trainer.families import Loaded
from trainer.run.parts import Parts

TABLES: dict[str, Any] = {
    "optimizer": {"type": "adamw", "text_encoder_rate": 1e-4},
    "sampling": {"prompts": ["a cat --s 1 --w 64 --h 64"], "every_steps": 2},
    "memory": {"gradient_checkpointing": True},
}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[torch.nn.Module]]:
    """The modules that runs load."""
    found: list[weakref.ref[torch.nn.Module]] = []
    before = Parts._one

    def noted(self: Parts, parts: frozenset[Any]) -> Loaded:
        model = before(self, parts)
        modules = [model.denoiser, model.vae, *model.text_encoders.values()]
        found.extend(weakref.ref(each) for each in modules if each is not None)
        return model

    monkeypatch.setattr(Parts, "_one", noted)
    return found


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Nothing looks for garbage: it comes late, and a GPU that is full does not wait for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _is_gone(loaded: list[weakref.ref[torch.nn.Module]]) -> bool:
    assert loaded
    return not any(each() is not None for each in loaded)


def test_a_run_that_ended_leaves_no_model(
    bases: Mapping[str, Path],
    family: str,
    source: Path,
    tmp_path: Path,
    loaded: list[weakref.ref[torch.nn.Module]],
    without_collector: None,
) -> None:
    runs.go(runs.request(bases[family], source, tmp_path, **TABLES))
    assert _is_gone(loaded)


def test_a_run_that_was_canceled_leaves_no_model_with_its_error(
    bases: Mapping[str, Path],
    source: Path,
    tmp_path: Path,
    loaded: list[weakref.ref[torch.nn.Module]],
    without_collector: None,
) -> None:
    with pytest.raises(JobCanceled) as canceled:
        runs.go(runs.request(bases["sd15"], source, tmp_path, **TABLES), runs.Recorder(1))
    assert _is_gone(loaded)
    assert canceled.value.partial.steps == 1


def test_a_run_whose_memory_ran_out_leaves_no_model_with_its_error(
    bases: Mapping[str, Path],
    source: Path,
    tmp_path: Path,
    loaded: list[weakref.ref[torch.nn.Module]],
    without_collector: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", full)
    with pytest.raises(OutOfMemory) as ended:
        runs.go(runs.request(bases["sd15"], source, tmp_path, **TABLES))
    assert _is_gone(loaded)
    assert ended.value.details["phase"] == "train"


def test_encoders_are_gone_when_steps_are_made(
    bases: Mapping[str, Path],
    source: Path,
    tmp_path: Path,
    loaded: list[weakref.ref[torch.nn.Module]],
    without_collector: None,
) -> None:
    """After caches were filled, and after samples."""
    sampling = {"prompts": ["a cat --s 1 --w 64 --h 64"], "every_steps": 1}
    asked = runs.request(bases["sd15"], source, tmp_path, sampling=sampling)
    alive: list[set[str]] = []

    class Looking(runs.Recorder):
        def metrics(self, item: TrainMetrics) -> None:
            alive.append({type(module).__name__ for each in loaded if (module := each()) is not None})

    runs.go(asked, Looking())
    assert alive == [{"UNet2DConditionModel"}] * 3
