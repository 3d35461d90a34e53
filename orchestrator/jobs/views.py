"""Jobs as clients see them: in events, in lists, and one by one with everything."""

from collections.abc import Sequence
from typing import Any

from contract.base import Reply
from orchestrator.clock import maybe_rfc3339, rfc3339
from orchestrator.jobs.artifacts import JobArtifact, artifact_of
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.listing import Whole
from orchestrator.jobs.reporter import JobProgress
from orchestrator.jobs.states import Reason, State
from orchestrator.jobs.table import Transition


class JobError(Reply, kw_only=True):
    """Why an attempt ended. Programs branch on `code`; people read `detail`."""

    code: str
    detail: str
    where: str | None
    hint: str | None
    retryable: bool
    details: dict[str, Any]


class JobChange(Reply, kw_only=True):
    """A job in an event: where it is, and why. `resumable`: another attempt would go on where it stopped."""

    id: str
    kind: str
    name: str
    state: State
    reason: Reason
    priority: int
    attempt: int
    lane: str | None
    output: str | None
    dataset_id: str | None
    parent_id: str | None
    resumable: bool
    error: JobError | None
    created_at: str
    changed_at: str
    started_at: str | None
    finished_at: str | None


class JobSummary(JobChange, kw_only=True):
    """A job in a list. `queue_position` counts from 1 while it waits."""

    queue_position: int | None
    progress: JobProgress | None


class JobTransition(Reply, kw_only=True):
    """A change of a job's state: from nothing, at first."""

    number: int
    at: str
    before: State | None
    after: State
    reason: Reason
    attempt: int
    lane: str | None
    error: JobError | None


class JobAttempt(Reply, kw_only=True):
    """An attempt that began, and how it ended; `state` is null while it has not."""

    attempt: int
    lane: str | None
    started_at: str
    ended_at: str | None
    state: State | None
    reason: Reason | None
    error: JobError | None


class JobView(JobSummary, kw_only=True):
    """A job with everything. Follow its events from `last_event_id` on, and nothing is missed."""

    settings: dict[str, Any]
    source: dict[str, Any] | None
    existing: str | None
    outcome: Any
    transitions: list[JobTransition]
    attempts: list[JobAttempt]
    artifacts: list[JobArtifact]
    last_event_id: int


def change_of(job: Job, kind: Kind | None) -> JobChange:
    """A job in an event."""
    return JobChange(**_common(job, kind))


def summary_of(job: Job, kind: Kind | None, position: int | None, progress: JobProgress | None) -> JobSummary:
    """A job in a list; `progress` is what is newest of it."""
    return JobSummary(**_common(job, kind), queue_position=position, progress=progress)


def view_of(whole: Whole, kind: Kind | None, progress: JobProgress | None, last_event_id: int) -> JobView:
    """A job with everything."""
    job = whole.job
    return JobView(
        **_common(job, kind),
        queue_position=whole.position,
        progress=progress,
        settings=job.settings,
        source=job.source,
        existing=job.existing,
        outcome=job.outcome,
        transitions=[transition_of(each) for each in whole.transitions],
        attempts=attempts_of(whole.transitions),
        artifacts=[artifact_of(each) for each in whole.artifacts],
        last_event_id=last_event_id,
    )


def transition_of(transition: Transition) -> JobTransition:
    """A row of the history."""
    return JobTransition(
        number=transition.number,
        at=rfc3339(transition.at_ms),
        before=transition.before,
        after=transition.after,
        reason=transition.reason,
        attempt=transition.attempt,
        lane=transition.lane,
        error=error_of(transition.error),
    )


def attempts_of(transitions: Sequence[Transition]) -> list[JobAttempt]:
    """Every start, and the first state after it in which nothing ran."""
    attempts: list[JobAttempt] = []
    for each in transitions:
        if each.after == "starting":
            attempts.append(_begun(each))
        elif attempts and attempts[-1].state is None and each.after not in ("running", "canceling"):
            last = attempts[-1]
            last.ended_at, last.state, last.reason = rfc3339(each.at_ms), each.after, each.reason
            last.error = error_of(each.error)
    return attempts


def error_of(wire: dict[str, Any] | None) -> JobError | None:
    """A WireError as it is kept, in the words of problems."""
    if wire is None:
        return None
    data = wire.get("data", {})
    return JobError(
        code=data.get("kind", "unknown"),
        detail=wire["message"],
        where=data.get("where"),
        hint=data.get("hint"),
        retryable=data.get("retryable", False),
        details=data.get("details", {}),
    )


def _common(job: Job, kind: Kind | None) -> dict[str, Any]:
    has_stopped = job.state in ("paused", "failed", "canceled", "interrupted")
    return {
        "id": job.id,
        "kind": job.kind,
        "name": job.name,
        "state": job.state,
        "reason": job.reason,
        "priority": job.priority,
        "attempt": job.attempt,
        "lane": job.lane,
        "output": job.output,
        "dataset_id": job.dataset_id,
        "parent_id": job.parent_id,
        "resumable": kind is not None and kind.resumable and has_stopped,
        "error": error_of(job.error),
        "created_at": rfc3339(job.created_ms),
        "changed_at": rfc3339(job.changed_ms),
        "started_at": maybe_rfc3339(job.started_ms),
        "finished_at": maybe_rfc3339(job.finished_ms),
    }


def _begun(transition: Transition) -> JobAttempt:
    return JobAttempt(
        attempt=transition.attempt,
        lane=transition.lane,
        started_at=rfc3339(transition.at_ms),
        ended_at=None,
        state=None,
        reason=None,
        error=None,
    )
