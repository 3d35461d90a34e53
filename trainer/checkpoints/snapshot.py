"""All that a run is at one moment, as a checkpoint keeps it and a resumed run takes it up."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from trainer.checkpoints.folder import Checkpoint, CheckpointFolder, WriteFile
from trainer.checkpoints.manifest import Position
from trainer.checkpoints.state import State

_PARTS: Final = ("adapter", "optimizer", "schedule", "scaler", "rng", "window")


class Snapshot(NamedTuple):
    """Each part is what its owner's `state_dict` says, so it may share memory with the run: save it at once.

    `adapter` has the numbers that are trained, in the type in which they are. `window` has the gradients of
    the accumulation window and the sums of its losses. `settings` is the digest of the run's settings.
    """

    position: Position
    settings: str
    adapter: State
    optimizer: State
    schedule: State
    scaler: State
    rng: State
    window: State


def save_snapshot(
    folder: CheckpointFolder,
    snapshot: Snapshot,
    *,
    files: Mapping[str, WriteFile] | None = None,
    score: float | None = None,
) -> Checkpoint:
    """Write it; `files` are others that go with it, as the adapter in the form in which it is used.

    Raises what `CheckpointFolder.save` raises.
    """
    parts = {name: getattr(snapshot, name) for name in _PARTS}
    return folder.save(parts, snapshot.position, snapshot.settings, files=files, score=score)


def load_snapshot(checkpoint: Checkpoint) -> Snapshot:
    """What was saved, bit for bit, on the CPU. Raises what `Checkpoint.state` raises."""
    manifest = checkpoint.manifest
    parts = {name: checkpoint.state(name) for name in _PARTS}
    return Snapshot(manifest.position, manifest.settings, **parts)
