"""A small training, stopped amidst of an accumulation window and taken up by another one: the same bits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import WeightsMismatch
from trainer.checkpoints import rng
from trainer.checkpoints.folder import CheckpointFolder
from trainer.checkpoints.manifest import Position
from trainer.checkpoints.snapshot import Snapshot, load_snapshot, save_snapshot
from trainer.checkpoints.window import gradients, restore_gradients

WINDOW = 3


class Run:
    """Nine batches a unit of work, dropout from torch's own generator, noise from one of the run's."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer]) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
        self.optimizer = make(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(self.optimizer, 4)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
        self.noise = torch.Generator().manual_seed(2)
        self.batch = 0

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.model.named_parameters())

    def go(self, batches: int) -> None:
        for _ in range(batches):
            loss = self.model(torch.randn(2, 4, generator=self.noise)).square().mean()
            self.scaler.scale(loss).backward()
            self.batch += 1
            if self.batch % WINDOW == 0:
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
                self.schedule.step()

    def snapshot(self) -> Snapshot:
        position = Position(self.batch // WINDOW, 0, self.batch, self.batch % WINDOW)
        return Snapshot(
            position,
            "digest",
            adapter=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            scaler=self.scaler.state_dict(),
            rng=rng.capture({"noise": self.noise}),
            window=gradients(self.parameters),
        )

    def take_up(self, snapshot: Snapshot) -> None:
        self.model.load_state_dict(snapshot.adapter)
        self.optimizer.load_state_dict(snapshot.optimizer)
        self.schedule.load_state_dict(snapshot.schedule)
        self.scaler.load_state_dict(snapshot.scaler)
        restore_gradients(self.parameters, snapshot.window)
        assert rng.restore(snapshot.rng, {"noise": self.noise}) == []
        self.batch = snapshot.position.batch


@pytest.mark.parametrize("batches", [0, 1, 6, 8])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adafactor", "NAdam", "RMSprop"])
def test_a_run_that_was_stopped_ends_in_the_same_bits(name: str, batches: int, tmp_path: Path) -> None:
    before = rng.capture()
    make = getattr(torch.optim, name)
    extra = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    whole = Run(lambda parameters: make(parameters, lr=0.01, **extra))
    whole.go(13)
    stopped = Run(lambda parameters: make(parameters, lr=0.01, **extra))
    stopped.go(batches)
    folder = CheckpointFolder(str(tmp_path))
    save_snapshot(folder, stopped.snapshot())
    again = Run(lambda parameters: make(parameters, lr=0.5, **extra))
    newest = folder.newest().checkpoint
    assert newest is not None
    again.take_up(load_snapshot(newest))
    again.go(13 - batches)
    one, two = (save_snapshot(folder, run.snapshot()) for run in (whole, again))
    assert one.manifest == two.manifest
    assert all(
        Path(one.path, each).read_bytes() == Path(two.path, each).read_bytes()
        for each in os.listdir(one.path)
    )
    rng.restore(before)


def test_gradients_of_another_network_are_refused_and_change_nothing() -> None:
    parameters = {"a": torch.nn.Parameter(torch.zeros(2)), "b": torch.nn.Parameter(torch.zeros(2))}
    with pytest.raises(WeightsMismatch):
        restore_gradients(parameters, {"a": None})
    with pytest.raises(WeightsMismatch) as refused:
        restore_gradients(parameters, {"a": torch.ones(2), "b": torch.ones(3)})
    assert refused.value.details == {"key": "b"}
    assert parameters["a"].grad is None
