"""Jobs in words, and the exit code that the end of one means."""

from collections.abc import Iterator

from contract.errors import ErrorData, LorakeetError, WireError, from_wire, leaves
from orchestrator.cli.api import JSON
from orchestrator.cli.exits import Exit, exit_for
from orchestrator.jobs.states import TERMINAL

_WORDS = {
    "out_of_memory": "memory ran out",
    "disk_full": "the disk is full",
    "gave_up": "tried as often as it may be",
    "kernel_died": "its kernel died",
    "kernel_unavailable": "no kernel could be started",
    "studio_stopped": "the studio was stopped",
    "studio_died": "the studio died",
    "retried": "tried again",
    "requeued": "goes on after a restart of the studio",
}


def row(job: JSON) -> tuple[str, ...]:
    """A job in a list."""
    return (job["id"], job["state"], job["kind"], _progress(job), job["name"])


def state_line(job: JSON) -> str:
    """Where a job is, and why."""
    parts = [job["state"]]
    if position := job.get("queue_position"):
        parts.append(f"number {position} in the queue")
    if words := _WORDS.get(job["reason"]):
        parts.append(words)
    if job["attempt"] > 1:
        parts.append(f"attempt {job['attempt']}")
    if job["lane"] and job["state"] not in TERMINAL:
        parts.append(f"on {job['lane']}")
    if job["error"]:
        parts.append(job["error"]["detail"])
    return ", ".join(parts)


def told(job: JSON) -> Iterator[str]:
    """What it came to, of jobs that say more than that they are done."""
    if (outcome := job.get("outcome")) is not None:
        from orchestrator.cli.outcomes import words_of

        yield from words_of(job["kind"], outcome)


def error_of(job: JSON) -> LorakeetError | None:
    """Why it ended."""
    said = job["error"]
    if said is None:
        return None
    kind = said["code"]
    code = next((leaf.code for leaf in leaves() if leaf.kind == kind), 4000)
    data = ErrorData(kind=kind, retryable=said["retryable"], where=said["where"], hint=said["hint"])
    return from_wire(WireError(code=code, message=said["detail"], data=data))


def exit_of(job: JSON) -> Exit:
    """The exit code of a command that saw a job end."""
    match job["state"]:
        case "succeeded":
            outcome = job.get("outcome")
            failed = outcome.get("failed_count") if isinstance(outcome, dict) else None
            return Exit.SOME_FAILED if failed else Exit.DONE
        case "failed":
            error = error_of(job)
            return Exit.FAILED if error is None else exit_for(error)
        case _:
            return Exit.NO_KERNEL


def _progress(job: JSON) -> str:
    progress = job.get("progress")
    if progress is None:
        return ""
    total = progress["total"]
    return f"{progress['step']}" if total is None else f"{progress['step']}/{total}"
