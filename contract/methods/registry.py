"""The table of methods: what the contract is, in one place."""

from collections.abc import Mapping
from typing import Any, Literal

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
from contract.methods.inspect import InspectParams, InspectResult
from contract.methods.merge import MergeOutcome, MergeParams
from contract.methods.metadata import MetadataOutcome, MetadataParams
from contract.methods.resize import ResizeOutcome, ResizeParams
from contract.methods.tag import TaggedImage, TagOutcome, TagParams
from contract.methods.tag_v1 import TagParamsV1, upgrade_1_to_2
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


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    kind: Kind
    summary: str
    payload: Payload[Any]
    result: type[msgspec.Struct] | None
    errors: Errors = ()
    item: type[msgspec.Struct] | None = None
    actions: tuple[str, ...] = ()
    idempotent: bool = True
    resumable: bool = False

    @property
    def params(self) -> type[Params]:
        """The newest params."""
        newest: type[Params] = self.payload.newest
        return newest

    def info(self) -> MethodInfo:
        """What `initialize` says of this method."""
        return MethodInfo(
            payload_versions=self.payload.versions, idempotent=self.idempotent, resumable=self.resumable
        )


_TABLE = (
    Method(
        name="initialize",
        kind="control",
        summary="Agree on a level, grant roots, set limits. Always the first request, and only once.",
        payload=Payload(InitializeParams),
        result=InitializeResult,
        errors=(LevelUnsupported, InvalidRequest, PathNotAbsolute),
        idempotent=False,
    ),
    Method(
        name="ping",
        kind="control",
        summary="Answer at once. For people who wonder; nothing is ever killed by it.",
        payload=Payload(control.PingParams),
        result=control.Pong,
    ),
    Method(
        name="status",
        kind="control",
        summary="What runs, and in what state the kernel is.",
        payload=Payload(control.NoParams),
        result=control.Status,
    ),
    Method(
        name="cancel",
        kind="control",
        summary="Ask a job to stop at its next step or item.",
        payload=Payload(control.CancelParams),
        result=control.CancelResult,
    ),
    Method(
        name="control",
        kind="control",
        summary="Give a running job an order that its method knows.",
        payload=Payload(control.ControlParams),
        result=control.ControlResult,
        errors=(UnknownJob,),
        idempotent=False,
    ),
    Method(
        name="roots/set",
        kind="control",
        summary="Replace the granted directories.",
        payload=Payload(control.RootsParams),
        result=control.RootsResult,
        errors=(PathNotAbsolute,),
    ),
    Method(
        name="job/get",
        kind="control",
        summary="What this process knows of a job, its outcome included.",
        payload=Payload(control.JobGetParams),
        result=control.JobRecord,
        errors=(UnknownJob,),
    ),
    Method(
        name="model/unload",
        kind="control",
        summary="Release models from memory.",
        payload=Payload(control.UnloadParams),
        result=control.UnloadResult,
    ),
    Method(
        name="probe",
        kind="query",
        summary="Load every installed engine and say what really works.",
        payload=Payload(control.NoParams),
        result=control.ProbeResult,
    ),
    Method(
        name="inspect",
        kind="query",
        summary="Say what a file of weights is, what it was made with, and what programs will load of it.",
        payload=Payload(InspectParams),
        result=InspectResult,
        errors=(InputError, ResourceError, RuntimeFailure),
    ),
    Method(
        name="tag",
        kind="job",
        summary="Tag pictures with a tagger in the interface of the WD14 family.",
        payload=Payload(TagParams, older={1: TagParamsV1}, upgrades={1: upgrade_1_to_2}),
        result=TagOutcome,
        item=TaggedImage,
        errors=ANY_JOB,
    ),
    Method(
        name="metadata",
        kind="job",
        summary="Edit the metadata of a safetensors file; its tensors stay as they are.",
        payload=Payload(MetadataParams),
        result=MetadataOutcome,
        errors=ANY_JOB,
    ),
    Method(
        name="resize",
        kind="job",
        summary="Make the same LoRA of other ranks.",
        payload=Payload(ResizeParams),
        result=ResizeOutcome,
        errors=ANY_JOB,
    ),
    Method(
        name="merge",
        kind="job",
        summary="Merge LoRAs or checkpoints, bake LoRAs into a checkpoint, or extract a LoRA from two.",
        payload=Payload(MergeParams),
        result=MergeOutcome,
        errors=ANY_JOB,
    ),
    Method(
        name="shutdown",
        kind="control",
        summary="Take no more jobs, let running ones end or cancel them, then answer.",
        payload=Payload(control.ShutdownParams),
        result=control.ShutdownResult,
    ),
    Method(
        name="initialized",
        kind="notification",
        summary="The host has read the answer to `initialize`.",
        payload=Payload(control.NoParams),
        result=None,
    ),
    Method(
        name="exit",
        kind="notification",
        summary="Leave now; running jobs are canceled.",
        payload=Payload(control.NoParams),
        result=None,
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
