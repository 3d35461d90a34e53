"""`resize`: a LoRA in; the same LoRA at other ranks out."""

import time

from contract.methods.resize import ResizeOutcome, ResizeParams
from kernel.jobs import Job
from kernel.session import Session


def run(params: ResizeParams, job: Job, session: Session) -> ResizeOutcome:
    """Resize the LoRA that `params` names. Raises InputError, ResourceError, RuntimeFailure, JobCanceled."""
    from kernel.surgery import Surgery

    started = time.perf_counter()
    with Surgery(job, params.outputs) as surgery:
        # What cannot be used is refused before torch is loaded, which takes a second or two.
        surgery.open(params.inputs.file, "$.params.inputs.file")
        from kernel.engines.factors.resize import resize

        outcome = resize(params, surgery)
    outcome.timings["wall_s"] = round(time.perf_counter() - started, 4)
    return outcome
