"""Where a run begins: anew, or at one of its checkpoints, or at one of another run."""

import os
from collections.abc import Callable
from typing import Final

from trainer.checkpoints.folder import Checkpoint, CheckpointFolder
from trainer.run.record import check_origin
from trainer.run.request import Request

CHECKPOINTS: Final = "checkpoints"


def beginning(request: Request, told: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint to go on from: the newest whole one of the run, else the one of another run that was
    asked for. `told` hears of those that are damaged.

    Raises FileMissing, FileUnreadable, WeightsDamaged, and InvalidParams where that other run is unlike this.
    """
    newest = CheckpointFolder(os.path.join(request.folder, CHECKPOINTS)).newest()
    if newest.damaged and newest.checkpoint is None and request.checkpoint is None:
        raise newest.damaged[0]
    for error in newest.damaged:
        told(f"{error.message} An older one is used.")
    if newest.checkpoint is not None or request.checkpoint is None:
        return newest.checkpoint
    check_origin(request)
    folder, name = os.path.split(os.path.abspath(request.checkpoint))
    return CheckpointFolder(folder).open(name)
