"""The checkpoints of one run: when the clock wants one, where they are, and which of them stay."""

import hashlib
import os
import time
from typing import Final

from contract.methods.train import TrainSettings
from trainer.checkpoints import manifest as manifests
from trainer.checkpoints.folder import Checkpoint, CheckpointFolder
from trainer.checkpoints.retention import Retention, prune
from trainer.checkpoints.snapshot import Snapshot, save_snapshot
from trainer.run.beginning import CHECKPOINTS
from trainer.run.watcher import Made

_SECONDS: Final = 60.0


class Keeper:
    """Writes into the folder of a run. `newest` is the path of the newest checkpoint of this attempt, or of
    that which it went on from."""

    def __init__(self, folder: str, settings: TrainSettings) -> None:
        """`folder` is the run's."""
        self.newest: str | None = None
        self._folder = CheckpointFolder(os.path.join(folder, CHECKPOINTS))
        self._chosen = settings.checkpoints
        self._number = -1
        self._at = time.monotonic()

    @property
    def is_late(self) -> bool:
        """Whether the last one is as many minutes old as the settings allow."""
        minutes = self._chosen.every_minutes
        return minutes > 0 and time.monotonic() - self._at >= minutes * _SECONDS

    def has(self, checkpoint: Checkpoint) -> bool:
        """Whether it is one of this run."""
        return os.path.dirname(checkpoint.path) == self._folder.path

    def stands_at(self, number: int) -> bool:
        """Whether the newest is one of this moment, after so many batches."""
        return self.newest is not None and self._number == number

    def take_up(self, checkpoint: Checkpoint, number: int) -> None:
        """The run goes on from one of its own, which is of the moment after so many batches."""
        self.newest, self._number = checkpoint.path, number

    def keep(self, snapshot: Snapshot, number: int) -> Made:
        """Write it, then remove what is old. Raises DiskFull, FileUnwritable, WeightsUnsupported."""
        kept = save_snapshot(self._folder, snapshot)
        self.newest, self._number, self._at = kept.path, number, time.monotonic()
        self.tidy()
        path, raw = os.path.join(kept.path, manifests.NAME), manifests.encode_manifest(kept.manifest)
        position = snapshot.position
        labels = {"step": position.step, "epoch": position.epoch}
        return Made("checkpoint", path, len(raw), hashlib.sha256(raw).hexdigest(), "application/json", labels)

    def tidy(self) -> None:
        """Remove checkpoints that are old, or were never whole. Raises FileUnreadable and FileUnwritable."""
        prune(self._folder, Retention(self._chosen.keep_last, self._chosen.keep_every_steps))
        self._folder.clear()
