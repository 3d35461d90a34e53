"""`inspect`: what a file of weights is, answered beside running jobs."""

import anyio.from_thread
import anyio.to_thread

from contract.methods.inspect import InspectParams, InspectResult
from kernel.session import Session


async def run(params: InspectParams, session: Session) -> InspectResult:
    """Look at a file under the roots. Raises PathNotAbsolute, PathOutsideRoots, FileMissing, FileUnreadable,
    WeightsFormat, WeightsDamaged and WeightsChanged."""
    path = session.roots.afresh().resolve(params.file, "$.params.file")
    return await anyio.to_thread.run_sync(_inspect, path, params)


def _inspect(path: str, params: InspectParams) -> InspectResult:
    from kernel.engines.inspection.inspect import Look
    from trainer.weights.tensor_file import open_weights

    with open_weights(path) as file:
        # A kernel that leaves does not wait for the last byte of a large file.
        return Look(file, anyio.from_thread.check_cancelled).result(params)
