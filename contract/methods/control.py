"""The methods that are no jobs: liveness, cancellation, roots, models, shutdown."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from contract.base import Params, Reply
from contract.errors import WireError
from contract.methods.job import JobId
from contract.notifications import KernelState, Progress

JobState = Literal["running", "canceling", "succeeded", "failed", "canceled"]


class NoParams(Params, frozen=True, kw_only=True):
    """The params of a method that needs none."""


class PingParams(Params, frozen=True, kw_only=True):
    """`echo` comes back unchanged."""

    echo: Annotated[str, Meta(max_length=4096)] | None = None


class Pong(Reply, kw_only=True):
    """`uptime_s` counts seconds since the process started."""

    instance_id: str
    uptime_s: float
    echo: str | None = None


class RunningJob(Reply, kw_only=True):
    """A job that runs now, with the newest progress that was made."""

    job_id: str
    method: str
    attempt: int
    state: JobState
    progress: Progress | None = None


class Status(Reply, kw_only=True):
    """What the kernel is doing. `state` is that of the last `kernel/state`, None before the first."""

    instance_id: str
    uptime_s: float
    accepting_jobs: bool
    jobs: list[RunningJob]
    state: KernelState | None


class CancelParams(Params, frozen=True, kw_only=True):
    """`graceful` lets a job bring what it has to a good end, such as a checkpoint; `now` does not."""

    job_id: JobId
    mode: Literal["graceful", "now"] = "graceful"


class CancelResult(Reply, kw_only=True):
    """A cancel is a request: the job still answers, once."""

    state: Literal["canceling", "already_finished", "unknown_job"]


class ControlParams(Params, frozen=True, kw_only=True):
    """An order to a running job; each method knows its own actions."""

    job_id: JobId
    action: Literal["save_now", "sample_now", "stop_after_epoch"]


class ControlResult(Reply, kw_only=True):
    """The order was taken; its effect shows in the job's own notifications."""

    accepted: bool = True


class RootsParams(Params, frozen=True, kw_only=True):
    """The directories granted from here on, in the order of the wire; a job keeps those it came under."""

    roots: list[str]


class RootsResult(Reply, kw_only=True):
    """The roots in force, links followed."""

    roots: list[str]


class JobGetParams(Params, frozen=True, kw_only=True):
    """Which job."""

    job_id: JobId


class JobRecord(Reply, kw_only=True):
    """A job this process knows. `result` or `error` is there once it has ended."""

    job_id: str
    method: str
    attempt: int
    state: JobState
    progress: Progress | None = None
    result: Any = None
    error: WireError | None = None


class UnloadParams(Params, frozen=True, kw_only=True):
    """Which models to release, by the names in `loaded`; none named means all."""

    models: list[str] = []


class UnloadResult(Reply, kw_only=True):
    """`in_use` models are released when their job ends."""

    unloaded: list[str]
    in_use: list[str] = []


class EngineProbe(Reply, kw_only=True):
    """An engine that was really loaded. `providers` are those a session really ran on."""

    name: str
    version: str | None
    loads: bool
    providers: list[str] = []
    message: str | None = None


class ProbeResult(Reply, kw_only=True):
    """What works here, tried rather than looked up; the libraries stay loaded afterwards."""

    engines: list[EngineProbe]
    state: KernelState


class ShutdownParams(Params, frozen=True, kw_only=True):
    """Running jobs may finish for `deadline_s` seconds, then they are canceled."""

    deadline_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class ShutdownResult(Reply, kw_only=True):
    """`finished` jobs ended by themselves; `canceled` ones were asked to stop."""

    finished: list[str]
    canceled: list[str]
