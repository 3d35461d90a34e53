"""What is in files of weights: of models, and of other files below the roots.

A look is asked for by POST, though it changes nothing: it starts a kernel and reads whole files, which a link
on somebody else's page must not be able to.
"""

from typing import Annotated

import msgspec

from contract.base import Strict
from contract.errors import (
    FileMissing,
    FileUnreadable,
    InputError,
    KernelDied,
    KernelTimeout,
    KernelUnavailable,
    NotFound,
    OutOfMemory,
    PathOutsideRoots,
    WeightsChanged,
    WeightsDamaged,
    WeightsFormat,
)
from contract.methods.inspect import InspectResult
from orchestrator.api.calls import Call
from orchestrator.api.registry import Routes
from orchestrator.jobs.sources import file_of
from orchestrator.models.entry import ModelId

routes = Routes("models")

_LOOKING = (
    FileMissing,
    FileUnreadable,
    WeightsFormat,
    WeightsDamaged,
    WeightsChanged,
    OutOfMemory,
    KernelUnavailable,
    KernelDied,
    KernelTimeout,
)


class InspectionQuery(Strict, frozen=True, kw_only=True):
    """What is to be found out beside what the header says."""

    hashes: Annotated[bool, msgspec.Meta(description="Read the whole file for its hashes.")] = True
    norms: Annotated[bool, msgspec.Meta(description="Compute the norms of an adapter's blocks.")] = True


class FileInspectionQuery(InspectionQuery, frozen=True, kw_only=True):
    """Which file, by the root that it lies below."""

    root: Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="Id of a root.")]
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=2_048, description="Path below it.")]


@routes.post("/models/{model_id}/inspection", errors=(NotFound, *_LOOKING))
async def inspect_model(call: Call, model_id: ModelId, query: InspectionQuery) -> InspectResult:
    """Look into a model: its family, modules, training, hashes, and what each program will load of it.

    A kernel does it, within two minutes; jobs do not hold it up.
    """
    model, path, _ = await call.studio.models.locate(model_id)
    return await _inspected(call, path, f"{model.root}/{model.path}", query)


@routes.post("/inspection", errors=(PathOutsideRoots, *_LOOKING))
async def inspect_file(call: Call, query: FileInspectionQuery) -> InspectResult:
    """Look into any file below a root, as into a model."""
    path = await file_of(call.studio, query.root, query.path)
    return await _inspected(call, path, f"{query.root}/{query.path}", query)


async def _inspected(call: Call, path: str, shown: str, query: InspectionQuery) -> InspectResult:
    try:
        result = await call.studio.inspector.inspect(path, hashes=query.hashes, norms=query.norms)
    except InputError as error:
        # Where the file lies on this machine, clients need not know.
        error.message = error.message.replace(error.where or shown, shown)
        error.where = shown
        raise
    result.file = shown
    return result
