"""How an attempt ends, for every way in which it can go wrong."""

import pytest

from contract.errors import (
    DeviceLost,
    DiskFull,
    InternalError,
    JobCanceled,
    KernelDied,
    KernelFault,
    KernelUnavailable,
    LoadFailed,
    OutOfMemory,
    leaves,
)
from orchestrator.jobs.endings import Ending, NoKernel, ending
from orchestrator.jobs.states import ALIVE, Reason, State, is_legal

_REASONS: dict[State, tuple[Reason, ...]] = {
    "starting": ("assigned",),
    "running": ("kernel_started",),
    "canceling": ("cancel_requested", "pause_requested"),
}


def _ending(error: Exception | None, state: State = "running", **fields: int | str | bool) -> Ending:
    usual = {"reason": _REASONS[state][0], "is_stopping": False, "retries": 2, "used": 0}
    return ending(state, error=error, **(usual | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "fields", "wanted"),
    [
        (None, {}, Ending("succeeded", "finished")),
        (None, {"state": "canceling"}, Ending("succeeded", "finished")),
        (LoadFailed("x"), {}, Ending("failed", "error")),
        (KernelFault("x"), {}, Ending("failed", "error")),
        (InternalError("x", trace_id="1"), {}, Ending("failed", "error")),
        (OutOfMemory("x"), {}, Ending("failed", "out_of_memory")),
        (OutOfMemory("x"), {"state": "canceling"}, Ending("failed", "out_of_memory")),
        (DiskFull("x"), {}, Ending("failed", "disk_full")),
        (DeviceLost("x"), {}, Ending("interrupted", "error", again=True)),
        (DeviceLost("x"), {"used": 2}, Ending("failed", "gave_up")),
        (DeviceLost("x"), {"retries": 0}, Ending("failed", "error")),
        (KernelDied("x"), {}, Ending("interrupted", "kernel_died", again=True)),
        (KernelDied("x"), {"retries": 0}, Ending("failed", "kernel_died")),
        (KernelDied("x"), {"is_stopping": True}, Ending("interrupted", "studio_stopped")),
        (KernelDied("x"), {"state": "canceling"}, Ending("canceled", "canceled")),
        (JobCanceled("x"), {}, Ending("interrupted", "error", again=True)),
        (JobCanceled("x"), {"is_stopping": True}, Ending("interrupted", "studio_stopped")),
        (JobCanceled("x"), {"state": "canceling"}, Ending("canceled", "canceled")),
        (
            JobCanceled("x"),
            {"state": "canceling", "reason": "pause_requested"},
            Ending("paused", "paused"),
        ),
        (
            NoKernel(KernelUnavailable("x")),
            {"state": "starting"},
            Ending("queued", "kernel_unavailable"),
        ),
        (NoKernel(KernelUnavailable("x")), {"state": "canceling"}, Ending("canceled", "canceled")),
    ],
)
def test_an_attempt_ends_as_it_should(
    error: Exception | None, fields: dict[str, int | str | bool], wanted: Ending
) -> None:
    assert _ending(error, **fields) == wanted  # type: ignore[arg-type]


def test_every_error_in_every_state_has_an_ending_that_the_table_knows() -> None:
    errors: list[Exception | None] = [None, NoKernel(KernelUnavailable("x"))]
    errors += [leaf.__new__(leaf, "x") for leaf in leaves()]
    for state in ALIVE:
        for reason in _REASONS[state]:
            for error in errors:
                for is_stopping in (False, True):
                    for retries, used in ((0, 0), (2, 0), (2, 2)):
                        if isinstance(error, NoKernel) and state == "running":
                            continue
                        how = ending(
                            state, reason, error, is_stopping=is_stopping, retries=retries, used=used
                        )
                        assert is_legal(state, how.state, how.reason), (state, error, how)
