"""The states of a job, and which change may follow which, for which reason. Docs and tests read `TABLE`.

A terminal state stays as it is for ever, but for a further attempt of the same job: that makes it `queued`
again, with the next number.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, get_args

State = Literal[
    "queued",
    "starting",
    "running",
    "paused",
    "canceling",
    "succeeded",
    "failed",
    "canceled",
    "interrupted",
]
Reason = Literal[
    "created",
    "assigned",
    "kernel_started",
    "finished",
    "error",
    "out_of_memory",
    "disk_full",
    "gave_up",
    "kernel_died",
    "kernel_unavailable",
    "cancel_requested",
    "canceled",
    "pause_requested",
    "paused",
    "resume_requested",
    "retry_requested",
    "retried",
    "requeued",
    "studio_stopped",
    "studio_died",
]

STATES: Final[tuple[State, ...]] = get_args(State)
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
TERMINAL: Final[frozenset[State]] = frozenset({"succeeded", "failed", "canceled", "interrupted"})
#: Something runs, or is about to: no job of an older boot may be in one of these.
ALIVE: Final[frozenset[State]] = frozenset({"starting", "running", "canceling"})
#: Reasons of attempts that nobody asked for, counted against a kind's `retries`.
AUTOMATIC: Final[frozenset[Reason]] = frozenset({"retried"})
#: Reasons of a further attempt: each makes the number of the attempt one higher.
NEXT_ATTEMPT: Final[frozenset[Reason]] = frozenset(
    {"retried", "requeued", "retry_requested", "resume_requested"}
)


class Change(NamedTuple):
    """One legal change: from any of `before` (None: from nothing) to `after`."""

    before: tuple[State | None, ...]
    after: State
    reason: Reason
    meaning: str


TABLE: Final[tuple[Change, ...]] = (
    Change((None,), "queued", "created", "Somebody asked for it."),
    Change(("queued",), "starting", "assigned", "A lane took it."),
    Change(("starting",), "queued", "kernel_unavailable", "The lane could start no kernel; another one may."),
    Change(("starting",), "running", "kernel_started", "Its work has begun."),
    Change(("starting", "running", "canceling"), "succeeded", "finished", "It is done."),
    Change(("starting", "running", "canceling"), "failed", "error", "Its `error` says why."),
    Change(
        ("starting", "running", "canceling"),
        "failed",
        "out_of_memory",
        "Memory ran out; it is never tried again unchanged.",
    ),
    Change(("starting", "running", "canceling"), "failed", "disk_full", "The disk is full."),
    Change(
        ("starting", "running"), "failed", "kernel_died", "Its kernel died, and its kind is not tried again."
    ),
    Change(("starting", "running"), "failed", "gave_up", "It was tried as often as its kind allows."),
    Change(("starting", "running"), "interrupted", "kernel_died", "Its kernel died."),
    Change(("starting", "running"), "interrupted", "error", "It failed in a way that may pass."),
    Change(("starting", "running"), "interrupted", "studio_stopped", "The studio was stopped."),
    Change(("starting", "running"), "interrupted", "studio_died", "The studio died."),
    Change(("starting", "running", "canceling"), "canceling", "cancel_requested", "Somebody wants it ended."),
    Change(("starting", "running"), "canceling", "pause_requested", "Somebody wants it paused."),
    Change(("canceling",), "canceled", "canceled", "It has ended as wanted."),
    Change(("queued", "paused"), "canceled", "cancel_requested", "Somebody wants it no more."),
    Change(("canceling",), "paused", "paused", "It has stopped where it can go on."),
    Change(("queued",), "paused", "pause_requested", "Somebody wants it to wait."),
    Change(("paused",), "queued", "resume_requested", "Somebody wants it to go on."),
    Change(("interrupted",), "queued", "retried", "It is tried again by itself."),
    Change(("interrupted",), "queued", "requeued", "The studio was started again."),
    Change(
        ("failed", "canceled", "interrupted"), "queued", "retry_requested", "Somebody wants another attempt."
    ),
)


def is_legal(before: State | None, after: State, reason: Reason) -> bool:
    """Whether `TABLE` has this change."""
    return (before, after, reason) in _LEGAL


def _each() -> Iterator[tuple[State | None, State, Reason]]:
    for change in TABLE:
        for before in change.before:
            yield before, change.after, change.reason


_LEGAL: Final = frozenset(_each())
