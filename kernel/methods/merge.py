"""`merge`: LoRAs or checkpoints into one, LoRAs into a checkpoint, a LoRA out of two checkpoints."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from contract.methods.merge import (
    Bake,
    CheckpointMerge,
    Extract,
    LoraMerge,
    MergeOutcome,
    MergeParams,
    Recipe,
)
from kernel.jobs import Job
from kernel.session import Session

if TYPE_CHECKING:
    from kernel.surgery import Surgery

#: An engine: settings of its type and the job's files in, the outcome out.
Engine = Callable[[Any, "Surgery"], MergeOutcome]


def run(params: MergeParams, job: Job, session: Session) -> MergeOutcome:
    """Merge what the settings name. Raises InputError, ResourceError, RuntimeFailure, JobCanceled."""
    from kernel.surgery import Surgery

    started = time.perf_counter()
    with Surgery(job, params.outputs) as surgery:
        outcome = _ENGINES[type(params.settings)]()(params.settings, surgery)
        outcome.artifacts = list(surgery.artifacts)
    outcome.timings["wall_s"] = round(time.perf_counter() - started, 4)
    return outcome


def _merge_loras() -> Engine:
    from kernel.engines.factors.merging import merge_loras

    return merge_loras


def _extract() -> Engine:
    from kernel.engines.factors.extraction import extract

    return extract


def _merge_checkpoints() -> Engine:
    from kernel.engines.streams.run import merge_checkpoints

    return merge_checkpoints


def _bake() -> Engine:
    from kernel.engines.streams.run import bake

    return bake


def _run_recipe() -> Engine:
    from kernel.engines.streams.run import run_recipe

    return run_recipe


#: The engine of each type of settings, loaded when a job needs it.
_ENGINES: Final[Mapping[type, Callable[[], Engine]]] = {
    LoraMerge: _merge_loras,
    CheckpointMerge: _merge_checkpoints,
    Bake: _bake,
    Extract: _extract,
    Recipe: _run_recipe,
}
