"""The table of methods: what the contract is, in one place.

The Structs of jobs are many, and to make them costs as much as the rest of a kernel's start. So they are
imported when one of them is asked for: `initialize` is answered without.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec

from contract.base import Params
from contract.errors import (
    AlreadyRunning,
    Busy,
    DependencyConflict,
    DependencyMissing,
    InputError,
    InternalError,
    InvalidParams,
    InvalidRequest,
    JobCanceled,
    JobConflict,
    LevelUnsupported,
    LorakeetError,
    NotInitialized,
    PathNotAbsolute,
    ResourceError,
    RuntimeFailure,
    ShuttingDown,
    UnknownJob,
    VersionUnsupported,
)
from contract.handshake import InitializeParams, InitializeResult, MethodInfo
from contract.methods import control
from contract.versions import Payload

Kind = Literal["job", "query", "control", "notification"]
Errors = tuple[type[LorakeetError], ...]

#: Errors that any request may get.
ANY_REQUEST: Errors = (NotInitialized, InvalidParams, InternalError)
#: Errors that any job may get.
ANY_JOB: Errors = (
    VersionUnsupported,
    AlreadyRunning,
    JobConflict,
    Busy,
    ShuttingDown,
    JobCanceled,
    InputError,
    ResourceError,
    RuntimeFailure,
    DependencyMissing,
    DependencyConflict,
)


class Types(NamedTuple):
    """What of a method crosses the wire: its params by version, its result, and the items of `partial`.
    `actions` are those that `control` may ask of it."""

    payload: Payload[Any]
    result: type[msgspec.Struct] | None = None
    item: type[msgspec.Struct] | None = None
    actions: tuple[str, ...] = ()


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. `versions` are those of its payload, oldest first; `load` makes the types."""

    name: str
    kind: Kind
    summary: str
    load: Callable[[], Types]
    versions: tuple[int, ...] = (1,)
    errors: Errors = ()
    idempotent: bool = True
    resumable: bool = False

    @property
    def types(self) -> Types:
        """Made once, when they are asked for first."""
        return _types(self.load)

    @property
    def payload(self) -> Payload[Any]:
        """The versions of its params."""
        return self.types.payload

    @property
    def result(self) -> type[msgspec.Struct] | None:
        """None for a notification."""
        return self.types.result

    @property
    def params(self) -> type[Params]:
        """The newest params."""
        newest: type[Params] = self.payload.newest
        return newest

    def info(self) -> MethodInfo:
        """What `initialize` says of this method."""
        return MethodInfo(
            payload_versions=list(self.versions), idempotent=self.idempotent, resumable=self.resumable
        )


@cache
def _types(load: Callable[[], Types]) -> Types:
    return load()


def _inspect() -> Types:
    from contract.methods.inspect import InspectParams, InspectResult

    return Types(Payload(InspectParams), InspectResult)


def _tag() -> Types:
    from contract.methods.tag import TaggedImage, TagOutcome, TagParams
    from contract.methods.tag_v1 import TagParamsV1, upgrade_1_to_2

    payload = Payload(TagParams, older={1: TagParamsV1}, upgrades={1: upgrade_1_to_2})
    return Types(payload, TagOutcome, TaggedImage)


def _train() -> Types:
    from contract.methods.train import ACTIONS, TrainMetrics, TrainOutcome, TrainParams

    return Types(Payload(TrainParams, first=2), TrainOutcome, TrainMetrics, ACTIONS)


def _metadata() -> Types:
    from contract.methods.metadata import MetadataOutcome, MetadataParams

    return Types(Payload(MetadataParams), MetadataOutcome)


def _resize() -> Types:
    from contract.methods.resize import ResizeOutcome, ResizeParams

    return Types(Payload(ResizeParams), ResizeOutcome)


def _merge() -> Types:
    from contract.methods.merge import MergeOutcome, MergeParams

    return Types(Payload(MergeParams), MergeOutcome)


_TABLE = (
    Method(
        name="initialize",
        kind="control",
        summary="Agree on a level, grant roots, set limits. Always the first request, and only once.",
        load=lambda: Types(Payload(InitializeParams), InitializeResult),
        errors=(LevelUnsupported, InvalidRequest, PathNotAbsolute),
        idempotent=False,
    ),
    Method(
        name="ping",
        kind="control",
        summary="Answer at once. For people who wonder; nothing is ever killed by it.",
        load=lambda: Types(Payload(control.PingParams), control.Pong),
    ),
    Method(
        name="status",
        kind="control",
        summary="What runs, and in what state the kernel is.",
        load=lambda: Types(Payload(control.NoParams), control.Status),
    ),
    Method(
        name="cancel",
        kind="control",
        summary="Ask a job to stop at its next step or item.",
        load=lambda: Types(Payload(control.CancelParams), control.CancelResult),
    ),
    Method(
        name="control",
        kind="control",
        summary="Give a running job an order that its method knows.",
        load=lambda: Types(Payload(control.ControlParams), control.ControlResult),
        errors=(UnknownJob,),
        idempotent=False,
    ),
    Method(
        name="roots/set",
        kind="control",
        summary="Replace the granted directories.",
        load=lambda: Types(Payload(control.RootsParams), control.RootsResult),
        errors=(PathNotAbsolute,),
    ),
    Method(
        name="job/get",
        kind="control",
        summary="What this process knows of a job, its outcome included.",
        load=lambda: Types(Payload(control.JobGetParams), control.JobRecord),
        errors=(UnknownJob,),
    ),
    Method(
        name="model/unload",
        kind="control",
        summary="Release models from memory.",
        load=lambda: Types(Payload(control.UnloadParams), control.UnloadResult),
    ),
    Method(
        name="probe",
        kind="query",
        summary="Load every installed engine and say what really works.",
        load=lambda: Types(Payload(control.NoParams), control.ProbeResult),
    ),
    Method(
        name="inspect",
        kind="query",
        summary="Say what a file of weights is, what it was made with, and what programs will load of it.",
        load=_inspect,
        errors=(InputError, ResourceError, RuntimeFailure),
    ),
    Method(
        name="tag",
        kind="job",
        summary="Tag pictures with a tagger in the interface of the WD14 family.",
        load=_tag,
        versions=(1, 2),
        errors=ANY_JOB,
    ),
    Method(
        name="train",
        kind="job",
        summary="Train a network of low rank on pictures with texts, beside a model that stays as it is.",
        load=_train,
        versions=(2,),
        errors=ANY_JOB,
        resumable=True,
    ),
    Method(
        name="metadata",
        kind="job",
        summary="Edit the metadata of a safetensors file; its tensors stay as they are.",
        load=_metadata,
        errors=ANY_JOB,
    ),
    Method(
        name="resize",
        kind="job",
        summary="Make the same LoRA of other ranks.",
        load=_resize,
        errors=ANY_JOB,
    ),
    Method(
        name="merge",
        kind="job",
        summary="Merge LoRAs or checkpoints, bake LoRAs into a checkpoint, or extract a LoRA from two.",
        load=_merge,
        errors=ANY_JOB,
    ),
    Method(
        name="shutdown",
        kind="control",
        summary="Take no more jobs, let running ones end or cancel them, then answer.",
        load=lambda: Types(Payload(control.ShutdownParams), control.ShutdownResult),
    ),
    Method(
        name="initialized",
        kind="notification",
        summary="The host has read the answer to `initialize`.",
        load=lambda: Types(Payload(control.NoParams)),
    ),
    Method(
        name="exit",
        kind="notification",
        summary="Leave now; running jobs are canceled.",
        load=lambda: Types(Payload(control.NoParams)),
    ),
)

#: Every method by its name.
METHODS: Mapping[str, Method] = {method.name: method for method in _TABLE}
#: Flags of this contract; absence means unsupported.
CAPABILITIES: Mapping[str, bool] = {
    "payload_versions": True,
    "file_uris": True,
    "manifests": True,
    "replay": True,
}
