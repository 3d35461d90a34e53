"""How an attempt ends, in the words of the table of states. Pure."""

from typing import Final, NamedTuple

from contract.errors import (
    DiskFull,
    JobCanceled,
    KernelDied,
    KernelFault,
    KernelTimeout,
    LorakeetError,
    NotReady,
    OutOfMemory,
)
from orchestrator.jobs.states import Reason, State

#: What is only the other side of an end that was wanted.
_BY_WISH: Final = (JobCanceled, KernelDied, KernelFault, KernelTimeout, NotReady)


class NoKernel(Exception):
    """Raised when a lane could start no kernel: that is no fault of the job. `error` says why."""

    def __init__(self, error: LorakeetError) -> None:
        super().__init__(error.message)
        self.error = error


class Ending(NamedTuple):
    """A state and its reason; `again`: whether the job is tried again by itself."""

    state: State
    reason: Reason
    again: bool = False


def ending(
    state: State, reason: Reason, error: Exception | None, *, is_stopping: bool, retries: int, used: int
) -> Ending:
    """The end of an attempt that was `state` for `reason`, by `error`; None: it is done.

    `is_stopping`: the studio is. `used` of the `retries` that the job's kind allows were made.
    """
    match error:
        case None:
            return Ending("succeeded", "finished")
        case NoKernel() if state == "starting":
            return Ending("queued", "kernel_unavailable")
        case OutOfMemory():
            return Ending("failed", "out_of_memory")
        case DiskFull():
            return Ending("failed", "disk_full")
    by_wish = isinstance(error, (*_BY_WISH, NoKernel))
    if state == "canceling" and by_wish:
        return Ending("paused", "paused") if reason == "pause_requested" else Ending("canceled", "canceled")
    if is_stopping and by_wish:
        return Ending("interrupted", "studio_stopped")
    return _failed(state, error, retries, used)


def _failed(state: State, error: Exception, retries: int, used: int) -> Ending:
    why: Reason = "kernel_died" if isinstance(error, KernelDied) else "error"
    # Canceled by nobody here: somebody else has ended the kernel.
    may_pass = isinstance(error, JobCanceled) or (isinstance(error, LorakeetError) and error.retryable)
    if not may_pass or retries == 0 or state == "canceling":
        return Ending("failed", why if state != "canceling" else "error")
    return Ending("interrupted", why, again=True) if used < retries else Ending("failed", "gave_up")
