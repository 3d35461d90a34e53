"""A small model has one thread of the processor, and gives the others back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.run import runs
from trainer.run.learner import Learner
from trainer.run.threads import threads_for


@pytest.fixture
def two_threads() -> Any:
    """As many as there are on most machines at least."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_model_is_trained_on_one_thread(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    add = Learner.add_gradients

    def adding(learner: Learner, *rest: Any) -> Any:
        seen.append(torch.get_num_threads())
        return add(learner, *rest)

    monkeypatch.setattr(Learner, "add_gradients", adding)
    runs.go(runs.request(bases["sd15"], source, tmp_path, training={"steps": 1}))
    assert seen == [1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_large_one_and_a_gpu_have_what_there_is(
    bases: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(bases["sd15"])
    with threads_for(model, torch.device("cuda")):
        assert torch.get_num_threads() == 2
    monkeypatch.setattr("trainer.run.threads._SMALL", bases["sd15"].stat().st_size // 2)
    with threads_for(model, torch.device("cpu")):
        assert torch.get_num_threads() == 2
