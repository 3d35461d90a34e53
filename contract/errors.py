"""Every error a user or a host can meet, in one tree.

LorakeetError
├── ProtocolError              the message itself (JSON-RPC's own codes)
│   ├── ParseError             −32700
│   ├── InvalidRequest         −32600   └── LineTooLong
│   ├── MethodNotFound         −32601
│   ├── InvalidParams          −32602
│   ├── InternalError          −32603
│   ├── NotInitialized         −32002
│   └── JobCanceled            −32800
├── ContractError              1xxx     what was agreed
│   ├── Unsupported                     ├── LevelUnsupported 1001 └── VersionUnsupported 1002
│   ├── JobIdentityError       1003     ├── AlreadyRunning ├── JobConflict └── UnknownJob
│   ├── Busy                   1004
│   └── ShuttingDown           1005
├── InputError                 2xxx     what the user gave
│   ├── PathError              20xx     ├── PathNotAbsolute ├── PathOutsideRoots ├── FileMissing
│   │                                   ├── FileUnreadable ├── NoImages ├── CaptionCollision
│   │                                   ├── CaptionUnreadable ├── ManifestInvalid
│   │                                   └── FileUnwritable
│   ├── ImageError             21xx     ├── ImageEmpty ├── ImageTruncated ├── ImageInvalid └── ImageTooLarge
│   ├── ModelError             22xx     ├── ModelIncomplete ├── ModelMismatch ├── ModelExternalData
│   │                                   ├── ModelNotOnnx ├── ModelInterface └── ModelNotFound
│   ├── SettingsInvalid        2301
│   └── WeightsError           24xx     ├── WeightsFormat ├── WeightsDamaged ├── WeightsUnknown
│                                       ├── WeightsIncomplete ├── WeightsMismatch ├── WeightsNotFinite
│                                       ├── WeightsUnsupported ├── WeightsChanged ├── OutputExists
│                                       └── OutputIsInput
├── ResourceError              3xxx     ├── OutOfMemory ├── DeviceLost └── DiskFull
├── RuntimeFailure             4xxx     ├── LoadFailed ├── NanLoss ├── DependencyMissing
│                                       ├── DependencyConflict ├── DownloadFailed
│                                       └── KernelError ├── KernelDied ├── KernelUnavailable
│                                                       ├── KernelTimeout └── KernelFault
└── StudioError                5xxx     the studio's own, by what asked for it
    ├── RequestError           51xx     ├── BodyInvalid ├── BodyTooLarge ├── MediaTypeWrong ├── RangeInvalid
    │                                   ├── NotFound ├── MethodNotAllowed ├── StateConflict ├── StaleVersion
    │                                   ├── VersionRequired └── KeyReused
    ├── AccessError            52xx     ├── HostRefused ├── CrossSite ├── Unauthorized └── TooManyAttempts
    ├── StoreError             53xx     ├── StoreLocked ├── StoreTooNew └── StoreDamaged
    ├── WorkerError            54xx     ├── WorkerDied └── WorkerTimeout
    └── NotReady               5501

`code` tells machines the family, `kind` is the slug that clients branch on. The text of an error is written
for the user by whoever raises it; the text of foreign exceptions never travels. Those marked `by_host`, such
as KernelError and its leaves, no kernel sends.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import msgspec

#: Characters of a text that travel. Errors quote what a host sent; no path is longer than this.
MAX_TEXT: Final = 8_192


def cut(text: str) -> str:
    """`text`, or its beginning where it is too long to travel."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …"


class ErrorData(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The `data` of a wire error. Clients branch on `kind`, never on the text."""

    kind: str
    retryable: bool = False
    where: str | None = None
    job_id: str | None = None
    hint: str | None = None
    details: dict[str, Any] = {}
    supported: list[int] | None = None
    partial: Any = None
    replayed: bool = False
    trace_id: str | None = None


def _no_data() -> ErrorData:
    return ErrorData(kind="unknown")


class WireError(msgspec.Struct, kw_only=True):
    """The `error` member of a JSON-RPC response, and of an entry of `failed`."""

    code: int
    message: str
    # Our kernel always says more; another program that speaks JSON-RPC need not.
    data: ErrorData = msgspec.field(default_factory=_no_data)


class LorakeetError(Exception):
    """Raised when something went wrong that a user can be told about; the root of the tree.

    `where` is a JSON path (`$.params.inputs.images[1]`), a file or a field; `hint` says what to do.
    """

    code: ClassVar[int]
    kind: ClassVar[str]
    retryable: ClassVar[bool] = False
    #: Whether hosts raise it by themselves and no kernel ever sends it.
    by_host: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.details = details or {}

    def to_wire(self, *, job_id: str | None = None) -> WireError:
        """This error as it travels."""
        data = ErrorData(
            kind=self.kind,
            retryable=self.retryable,
            where=None if self.where is None else cut(self.where),
            job_id=job_id,
            hint=None if self.hint is None else cut(self.hint),
            details=self.details,
        )
        return WireError(code=self.code, message=cut(self.message), data=data)


class ProtocolError(LorakeetError):
    """Raised when a message breaks JSON-RPC or the order of the handshake."""


class ParseError(ProtocolError):
    """Raised when a line is not JSON in UTF-8."""

    code = -32700
    kind = "parse_error"


class InvalidRequest(ProtocolError):
    """Raised when a line is JSON but no JSON-RPC 2.0 request: a batch, a wrong id, a second `initialize`."""

    code = -32600
    kind = "invalid_request"


class LineTooLong(InvalidRequest):
    """Raised when a line is longer than `max_message_bytes`."""

    kind = "line_too_long"


class MethodNotFound(ProtocolError):
    """Raised when the kernel has no such method."""

    code = -32601
    kind = "method_not_found"


class InvalidParams(ProtocolError):
    """Raised when params do not fit their Struct; `details.problems` lists every problem found."""

    code = -32602
    kind = "invalid_params"


class InternalError(ProtocolError):
    """Raised when the kernel has a bug; the traceback is on its stderr under `trace_id`."""

    code = -32603
    kind = "internal_error"

    def __init__(self, message: str, *, trace_id: str) -> None:
        super().__init__(message, details={})
        self.trace_id = trace_id

    def to_wire(self, *, job_id: str | None = None) -> WireError:
        wire = super().to_wire(job_id=job_id)
        wire.data.trace_id = self.trace_id
        return wire


class NotInitialized(ProtocolError):
    """Raised when a request comes before `initialize`."""

    code = -32002
    kind = "not_initialized"


class JobCanceled(ProtocolError):
    """Raised when a job ends because it was canceled; `partial` is what it had finished by then."""

    code = -32800
    kind = "canceled"

    def __init__(self, message: str, *, partial: Any = None) -> None:
        super().__init__(message)
        self.partial = partial

    def to_wire(self, *, job_id: str | None = None) -> WireError:
        wire = super().to_wire(job_id=job_id)
        wire.data.partial = self.partial
        return wire


class ContractError(LorakeetError):
    """Raised when host and kernel do not agree: level, version, identity, or the moment."""


class Unsupported(ContractError):
    """Raised when a number that was offered is none of `supported`."""

    def __init__(self, message: str, *, supported: list[int], where: str | None = None) -> None:
        super().__init__(message, where=where)
        self.supported = supported

    def to_wire(self, *, job_id: str | None = None) -> WireError:
        wire = super().to_wire(job_id=job_id)
        wire.data.supported = self.supported
        return wire


class LevelUnsupported(Unsupported):
    """Raised when host and kernel have no contract level in common."""

    code = 1001
    kind = "level_unsupported"


class VersionUnsupported(Unsupported):
    """Raised when a payload has a version that the method does not know."""

    code = 1002
    kind = "version_unsupported"


class JobIdentityError(ContractError):
    """Raised when a job id does not mean what the host thinks."""

    code = 1003
    kind = "job_identity"


class AlreadyRunning(JobIdentityError):
    """Raised when the same job is sent again while it runs."""

    kind = "already_running"


class JobConflict(JobIdentityError):
    """Raised when a known job id comes with other params, or with an attempt already overtaken."""

    kind = "conflict"


class UnknownJob(JobIdentityError):
    """Raised when this kernel knows no job of that id."""

    kind = "unknown_job"


class Busy(ContractError):
    """Raised when the kernel already runs as many jobs as it can."""

    code = 1004
    kind = "busy"
    retryable = True


class ShuttingDown(ContractError):
    """Raised when a job comes after `shutdown`."""

    code = 1005
    kind = "shutting_down"
    retryable = True


class InputError(LorakeetError):
    """Raised when what the user gave cannot be used."""


class PathError(InputError):
    """Raised when a path cannot be used."""


class PathNotAbsolute(PathError):
    """Raised when a path is relative, or contains `..`."""

    code = 2001
    kind = "path_not_absolute"


class PathOutsideRoots(PathError):
    """Raised when a path, its links followed, lies under none of the granted roots."""

    code = 2002
    kind = "path_outside_roots"


class FileMissing(PathError):
    """Raised when a file is not there."""

    code = 2003
    kind = "file_missing"


class FileUnreadable(PathError):
    """Raised when a file is there and cannot be read: no permission, a folder, a failing disk."""

    code = 2004
    kind = "file_unreadable"


class NoImages(PathError):
    """Raised when a folder has no images."""

    code = 2005
    kind = "no_images"


class CaptionCollision(PathError):
    """Raised when two images would share one caption file."""

    by_host = True
    code = 2006
    kind = "caption_collision"


class CaptionUnreadable(PathError):
    """Raised when an existing caption is not text in UTF-8, so that nothing can be appended to it."""

    by_host = True
    code = 2007
    kind = "caption_unreadable"


class ManifestInvalid(PathError):
    """Raised when a manifest has a line that is no manifest item."""

    code = 2008
    kind = "manifest_invalid"


class FileUnwritable(PathError):
    """Raised when a file cannot be written: no permission, a read-only disk."""

    code = 2009
    kind = "file_unwritable"


class ImageError(InputError):
    """Raised when an image cannot be decoded."""


class ImageEmpty(ImageError):
    """Raised when an image file has no bytes."""

    code = 2101
    kind = "image_empty"


class ImageTruncated(ImageError):
    """Raised when an image file ends too early."""

    code = 2102
    kind = "image_truncated"


class ImageInvalid(ImageError):
    """Raised when a file is no image of a known format, or a damaged one."""

    code = 2103
    kind = "image_invalid"


class ImageTooLarge(ImageError):
    """Raised when an image has more pixels than `limits.max_image_pixels`."""

    code = 2104
    kind = "image_too_large"


class ModelError(InputError):
    """Raised when a model cannot be used."""


class ModelIncomplete(ModelError):
    """Raised when a model folder lacks a file."""

    code = 2201
    kind = "model_incomplete"


class ModelMismatch(ModelError):
    """Raised when the files of a model do not belong together."""

    code = 2202
    kind = "model_mismatch"


class ModelExternalData(ModelError):
    """Raised when an ONNX file points at tensors outside its own folder."""

    code = 2203
    kind = "model_external_data"


class ModelNotOnnx(ModelError):
    """Raised when a file is not an ONNX model."""

    code = 2204
    kind = "model_not_onnx"


class ModelInterface(ModelError):
    """Raised when an ONNX model has other inputs or outputs than the method needs."""

    code = 2205
    kind = "model_interface"


class ModelNotFound(ModelError):
    """Raised when a repository or revision does not exist on the hub."""

    code = 2206
    kind = "model_not_found"


class SettingsInvalid(InputError):
    """Raised when a settings file, flag or environment variable cannot be understood."""

    by_host = True
    code = 2301
    kind = "settings_invalid"


class WeightsError(InputError):
    """Raised when a file of weights cannot be used; `where` names the file, `details.key` the tensor."""


class WeightsFormat(WeightsError):
    """Raised when a file is no safetensors file: a pickle (.ckpt, .pt, .bin), GGUF, or something else."""

    code = 2401
    kind = "weights_format"


class WeightsDamaged(WeightsError):
    """Raised when a safetensors file is not whole: cut off, overlapping, a header that is no JSON."""

    code = 2402
    kind = "weights_damaged"


class WeightsUnknown(WeightsError):
    """Raised when a file belongs to no family that is known; nothing is guessed."""

    code = 2403
    kind = "weights_unknown"


class WeightsIncomplete(WeightsError):
    """Raised when the other half of a pair of tensors is missing."""

    code = 2404
    kind = "weights_incomplete"


class WeightsMismatch(WeightsError):
    """Raised when files do not fit together: other families, other shapes, other kinds of files."""

    code = 2405
    kind = "weights_mismatch"


class WeightsNotFinite(WeightsError):
    """Raised when a tensor has NaN or infinite numbers."""

    code = 2406
    kind = "weights_not_finite"


class WeightsUnsupported(WeightsError):
    """Raised when a file is sound, but this cannot be done with it."""

    code = 2407
    kind = "weights_unsupported"


class WeightsChanged(WeightsError):
    """Raised when a file is not the one that was meant: another SHA-256, or it changed while it was read."""

    code = 2408
    kind = "weights_changed"


class OutputExists(WeightsError):
    """Raised when the output is there already and is not to be overwritten."""

    code = 2409
    kind = "output_exists"


class OutputIsInput(WeightsError):
    """Raised when the output is one of the files that are read."""

    code = 2410
    kind = "output_is_input"


class ResourceError(LorakeetError):
    """Raised when the machine cannot do it."""


class OutOfMemory(ResourceError):
    """Raised when memory ran out. Never repeat the job unchanged."""

    code = 3001
    kind = "out_of_memory"


class DeviceLost(ResourceError):
    """Raised when a device stopped answering."""

    code = 3002
    kind = "device_lost"
    retryable = True


class DiskFull(ResourceError):
    """Raised when a disk is full."""

    code = 3003
    kind = "disk_full"
    retryable = True


class RuntimeFailure(LorakeetError):
    """Raised when something failed while it ran."""


class LoadFailed(RuntimeFailure):
    """Raised when an engine could not load a model that looked right."""

    code = 4001
    kind = "load_failed"


class NanLoss(RuntimeFailure):
    """Raised when a loss is not finite."""

    code = 4002
    kind = "nan_loss"


class DependencyMissing(RuntimeFailure):
    """Raised when a library that the method needs is not installed."""

    code = 4003
    kind = "dependency_missing"


class DependencyConflict(RuntimeFailure):
    """Raised when two installed libraries break each other."""

    code = 4004
    kind = "dependency_conflict"


class DownloadFailed(RuntimeFailure):
    """Raised when a file could not be fetched."""

    code = 4005
    kind = "download_failed"
    retryable = True


class KernelError(RuntimeFailure):
    """Raised by a host about its kernel."""

    by_host = True


class KernelDied(KernelError):
    """Raised when the kernel's process or its stdout ended; `details` has exit_code, signal, stderr_tail."""

    code = 4006
    kind = "kernel_died"
    retryable = True


class KernelUnavailable(KernelError):
    """Raised when no kernel can be started."""

    code = 4007
    kind = "kernel_unavailable"


class KernelTimeout(KernelError):
    """Raised when the kernel did not answer within the host's deadline."""

    code = 4008
    kind = "kernel_timeout"
    retryable = True


class KernelFault(KernelError):
    """Raised when the kernel said something that the contract does not have: nothing it says counts."""

    code = 4009
    kind = "kernel_fault"


class StudioError(LorakeetError):
    """Raised by the studio about itself, its clients and its workers."""

    by_host = True


class RequestError(StudioError):
    """Raised when a request to the studio cannot be carried out as it stands."""


class BodyInvalid(RequestError):
    """Raised when the body of a request is not what its media type says."""

    code = 5101
    kind = "body_invalid"


class BodyTooLarge(RequestError):
    """Raised when a body is larger than is taken."""

    code = 5102
    kind = "body_too_large"


class MediaTypeWrong(RequestError):
    """Raised when a body comes in a media type that the operation does not take."""

    code = 5103
    kind = "media_type_wrong"


class RangeInvalid(RequestError):
    """Raised when a range lies outside the file."""

    code = 5104
    kind = "range_invalid"


class NotFound(RequestError):
    """Raised when there is no such thing."""

    code = 5105
    kind = "not_found"


class MethodNotAllowed(RequestError):
    """Raised when a resource does not know the HTTP method."""

    code = 5106
    kind = "method_not_allowed"


class StateConflict(RequestError):
    """Raised when something is not in a state in which this can be done."""

    code = 5107
    kind = "state_conflict"


class StaleVersion(RequestError):
    """Raised when something was changed by somebody else meanwhile."""

    code = 5108
    kind = "stale_version"


class VersionRequired(RequestError):
    """Raised when a change does not say which version it is a change of."""

    code = 5109
    kind = "version_required"


class KeyReused(RequestError):
    """Raised when an idempotency key comes again with another request."""

    code = 5110
    kind = "key_reused"


class AccessError(StudioError):
    """Raised when a request is not let in."""


class HostRefused(AccessError):
    """Raised when a request is meant for a host that the studio is not."""

    code = 5201
    kind = "host_refused"


class CrossSite(AccessError):
    """Raised when a request was made by a page of another origin."""

    code = 5202
    kind = "cross_site"


class Unauthorized(AccessError):
    """Raised when a request has no valid token or session."""

    code = 5203
    kind = "unauthorized"


class TooManyAttempts(AccessError):
    """Raised when too many wrong tokens came in a short time."""

    code = 5204
    kind = "too_many_attempts"
    retryable = True


class StoreError(StudioError):
    """Raised when the data directory cannot be used."""


class StoreLocked(StoreError):
    """Raised when another studio or command has the data directory."""

    code = 5301
    kind = "store_locked"


class StoreTooNew(StoreError):
    """Raised when a newer version of Lorakeet has written the data directory."""

    code = 5302
    kind = "store_too_new"


class StoreDamaged(StoreError):
    """Raised when a database cannot be read or written."""

    code = 5303
    kind = "store_damaged"


class WorkerError(StudioError):
    """Raised when a worker process did not do what it was given."""


class WorkerDied(WorkerError):
    """Raised when a worker process ended: killed, out of memory, or a bug of a decoder."""

    code = 5401
    kind = "worker_died"
    retryable = True


class WorkerTimeout(WorkerError):
    """Raised when a worker process took longer than it may."""

    code = 5402
    kind = "worker_timeout"


class NotReady(StudioError):
    """Raised when the studio is starting, stopping, or short of what it needs."""

    code = 5501
    kind = "not_ready"
    retryable = True


def leaves(root: type[LorakeetError] = LorakeetError) -> Iterator[type[LorakeetError]]:
    """Every error class that has a kind, in the order of the tree."""
    if "kind" in vars(root):
        yield root
    for child in root.__subclasses__():
        yield from leaves(child)


def from_wire(wire: WireError) -> LorakeetError:
    """The error that a wire error stands for, so that hosts raise the class that the kernel raised.

    An unknown kind (a newer kernel's) becomes the nearest family by its code.
    """
    made = _nearest(wire)
    error: LorakeetError = made.__new__(made)
    LorakeetError.__init__(
        error, wire.message, where=wire.data.where, hint=wire.data.hint, details=wire.data.details
    )
    vars(error).update(
        code=wire.code,
        kind=wire.data.kind,
        retryable=wire.data.retryable,
        job_id=wire.data.job_id,
        replayed=wire.data.replayed,
        partial=wire.data.partial,
        supported=wire.data.supported,
        trace_id=wire.data.trace_id,
    )
    return error


def _nearest(wire: WireError) -> type[LorakeetError]:
    for leaf in leaves():
        if leaf.kind == wire.data.kind:
            return leaf
    families = {
        1: ContractError,
        2: InputError,
        3: ResourceError,
        4: RuntimeFailure,
        5: StudioError,
    }
    return ProtocolError if wire.code < 0 else families.get(wire.code // 1000, LorakeetError)
