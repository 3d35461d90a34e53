"""Which checkpoints of a run are kept, and the removal of the others: never of the last whole one."""

import math
from collections.abc import Mapping

import msgspec

from contract.errors import FileMissing, FileUnreadable, WeightsDamaged
from trainer.checkpoints.folder import CheckpointFolder
from trainer.checkpoints.manifest import Manifest


class Retention(msgspec.Struct, frozen=True):
    """A checkpoint is kept for any of these reasons: it is one of the `keep_last` newest; its step is a
    multiple of `keep_every_steps`, unless that is 0; its score is one of the `keep_best` lowest."""

    keep_last: int = 2
    keep_every_steps: int = 0
    keep_best: int = 0


def kept(manifests: Mapping[str, Manifest], policy: Retention) -> set[str]:
    """The names to keep, of `manifests` by name from the oldest on; the newest is always one of them."""
    names = list(manifests)
    chosen = set(names[-max(1, policy.keep_last) :])
    if every := policy.keep_every_steps:
        chosen |= {name for name in names if manifests[name].position.step % every == 0}
    scored = [(score, -age, name) for age, name in enumerate(names) if (score := _score(manifests[name]))]
    # Of equal ones, the newer.
    chosen |= {name for _, _, name in sorted(scored)[: policy.keep_best]}
    return chosen


def prune(folder: CheckpointFolder, policy: Retention) -> list[str]:
    """Remove what is not kept, from the oldest on, and say what was removed.

    Call it when the new checkpoint is whole. Unless one of those that are kept is whole, which is looked at,
    the newest whole one of the others stays, too. Damaged checkpoints whose manifest cannot be read are left
    alone: somebody may want to save what is in them. Raises FileUnreadable and FileUnwritable.
    """
    manifests = _readable(folder)
    keeping = kept(manifests, policy)
    going = [name for name in manifests if name not in keeping]
    if not any(folder.is_whole(name) for name in _newest_first(manifests, keeping)):
        whole = next((name for name in reversed(going) if folder.is_whole(name)), None)
        going = [name for name in going if name != whole]
    for name in going:
        folder.remove(name)
    return going


def _readable(folder: CheckpointFolder) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for name in folder.names():
        try:
            found[name] = folder.manifest(name)
        except (FileMissing, FileUnreadable, WeightsDamaged):
            continue
    return found


def _newest_first(manifests: Mapping[str, Manifest], names: set[str]) -> list[str]:
    return [name for name in reversed(list(manifests)) if name in names]


def _score(manifest: Manifest) -> tuple[float] | None:
    """None where it has none that could be compared."""
    return None if manifest.score is None or math.isnan(manifest.score) else (manifest.score,)
