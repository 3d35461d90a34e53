"""What a kernel says without being asked.

`progress` and `log` are lossy: the newest counts. `partial`, `artifact` and `kernel/state` always arrive.
`seq` strictly increases within one job and is set by the writer as it writes.
"""

from typing import Any, Literal

from contract.base import Reply

LogLevel = Literal["debug", "info", "warning", "error"]


class Progress(Reply, kw_only=True):
    """Where a job stands. `rate` is units a second, `eta_s` seconds; `total` None means not known."""

    job_id: str
    seq: int = 0
    phase: str
    step: int = 0
    total: int | None = None
    unit: str = "items"
    rate: float | None = None
    eta_s: float | None = None
    metrics: dict[str, float] = {}
    message: str | None = None


class Log(Reply, kw_only=True):
    """A line for a person. `dropped` counts the lines lost just before it because the host was slow."""

    level: LogLevel
    logger: str
    message: str
    job_id: str | None = None
    dropped: int = 0


class Partial(Reply, kw_only=True):
    """Finished items of a running job; `failed` are the items that could not be done."""

    job_id: str
    seq: int = 0
    items: list[Any] = []
    failed: list[Any] = []


class Artifact(Reply, kw_only=True):
    """A finished file. It is whole when this arrives; `sha256` is lower-case hex of its bytes. `labels` say
    which of several of its role it is: the `step` of a checkpoint, the `prompt_index` of a sample."""

    job_id: str
    seq: int = 0
    role: str
    path: str
    bytes: int
    sha256: str
    media_type: str
    labels: dict[str, int] = {}


class Device(Reply, kw_only=True):
    """A place where jobs can run. Memory is bytes."""

    id: str
    kind: Literal["cpu", "cuda", "mps", "rocm"]
    name: str
    memory_total: int | None = None
    memory_free: int | None = None


class KernelProblem(Reply, kw_only=True):
    """Something that is not right with this installation; `command` mends it."""

    kind: str
    message: str
    command: str | None = None


class KernelState(Reply, kw_only=True):
    """`engines` are the installed libraries and their versions, found without importing them;
    `loaded` are those in memory now."""

    status: Literal["ready", "degraded"]
    devices: list[Device]
    engines: dict[str, str]
    loaded: list[str] = []
    problems: list[KernelProblem] = []


#: Method name of each notification, and whether it may be lost.
NOTIFICATIONS: dict[str, tuple[type[Reply], bool]] = {
    "progress": (Progress, True),
    "log": (Log, True),
    "partial": (Partial, False),
    "artifact": (Artifact, False),
    "kernel/state": (KernelState, False),
}
