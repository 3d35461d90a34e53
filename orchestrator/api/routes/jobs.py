"""Jobs: made, looked at, ended, tried again, and what they leave behind."""

from typing import Annotated, Any, Literal

import msgspec

from contract.base import Reply, Strict
from contract.errors import FileUnwritable, StateConflict
from contract.methods.train import TrainAction
from contract.validation import Problem, invalid
from orchestrator.api.calls import Answer, Call, etag
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.jobs.job import Job
from orchestrator.jobs.listing import Filter, Listed, Order
from orchestrator.jobs.requests import JobRequest, Name, Priority
from orchestrator.jobs.states import STATES, TERMINAL, State
from orchestrator.jobs.views import JobSummary, JobView, summary_of, view_of

routes = Routes("jobs")

JobId = Annotated[str, msgspec.Meta(pattern=r"^job_[0-9A-Z]{26}\Z")]
States = Annotated[
    str, msgspec.Meta(max_length=200, description="States with commas, such as `queued,running`.")
]
Text = Annotated[str, msgspec.Meta(max_length=200, description="Stands in the name, the output or the id.")]


#: A number in a cursor: what the database can compare.
Counted = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class JobPage(Reply, kw_only=True):
    """Some jobs."""

    items: list[JobSummary]
    next_cursor: str | None
    total: int


class JobsQuery(PageQuery, frozen=True, kw_only=True):
    """Which jobs: the newest first, or those that wait in the order in which they start."""

    state: States | None = None
    kind: str | None = None
    dataset: str | None = None
    q: Text | None = None
    order: Order = "newest"


class JobPatch(Strict, frozen=True, kw_only=True):
    """What can be changed of a job at any time."""

    name: Name | None = None
    priority: Priority | None = None


class CancelQuery(Strict, frozen=True, kw_only=True):
    """How it is to end."""

    mode: Literal["graceful", "now"] = "graceful"


class JobOrder(Strict, frozen=True, kw_only=True):
    """An order for a running job: one of the `actions` of its kind."""

    action: TrainAction


class Rerun(Strict, frozen=True, kw_only=True):
    """What is different in the new job; `settings` are laid over those of the old one. It begins anew, or
    goes on from `checkpoint`: the number of an artifact of the old one with that role."""

    settings: dict[str, Any] = {}
    checkpoint: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    output: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    name: Name | None = None
    priority: Priority | None = None


@routes.post("/jobs", status=202)
async def create_job(call: Call, body: JobRequest) -> Answer[JobView]:
    """Put a job into the queue.

    With `Prefer: wait=N` (at most 30 seconds) the answer is 200 if the job has ended by then.
    """
    job = await call.studio.jobs.create(call.new_id("job"), body)
    return await _made(call, job)


@routes.get("/jobs")
async def list_jobs(call: Call, query: JobsQuery) -> JobPage:
    """List the jobs."""
    wanted = Filter(_states(query.state), query.kind, query.dataset, query.q)
    jobs = call.studio.jobs
    if query.order == "queue":
        after = place_of(query.cursor, Counted, float, str) if query.cursor else None
        found = await jobs.in_queue(wanted, after, query.limit + 1)
    else:
        before = place_of(query.cursor, Counted)[0] if query.cursor else None
        found = await jobs.newest(wanted, before, query.limit + 1)
    return _page(call, query, found)


@routes.get("/jobs/{job_id}")
async def read_job(call: Call, job_id: JobId) -> Answer[JobView]:
    """Read a job with everything.

    The ETag stands for what a PATCH depends on: the name, the priority and the state, not the progress.
    """
    return await _answer(call, job_id)


@routes.patch("/jobs/{job_id}", needs_match=True)
async def change_job(call: Call, job_id: JobId, body: JobPatch) -> Answer[JobView]:
    """Give a job another name or priority."""

    def check(job: Job) -> None:
        call.require_match(_etag(job))

    await call.studio.jobs.describe(job_id, check, body.name, body.priority)
    return await _answer(call, job_id)


@routes.delete("/jobs/{job_id}", errors=(StateConflict, FileUnwritable))
async def delete_job(call: Call, job_id: JobId) -> None:
    """Delete a job that has ended. Its folder goes to the trash; what it made elsewhere stays."""
    await call.studio.jobs.delete(job_id)


@routes.post("/jobs/{job_id}/cancel", status=202)
async def cancel_job(call: Call, job_id: JobId, query: CancelQuery) -> Answer[JobView]:
    """Cancel a job. 202: it is being ended. 200: it has ended, now or before.

    A training writes a checkpoint first; with `mode=now`, also where it is being canceled already, it does
    not.
    """
    job = await call.studio.jobs.cancel(job_id, now=query.mode == "now")
    return await _ended(call, job)


@routes.post("/jobs/{job_id}/pause", status=202)
async def pause_job(call: Call, job_id: JobId) -> Answer[JobView]:
    """Pause a job whose kind is resumable. 202: it is being brought to a stop. 200: it is paused."""
    job = await call.studio.jobs.pause(job_id)
    return await _answer(call, job_id, None if job.state == "canceling" else 200)


@routes.post("/jobs/{job_id}/resume", status=202)
async def resume_job(call: Call, job_id: JobId) -> Answer[JobView]:
    """Let a paused job go on, with its next attempt."""
    await call.studio.jobs.resume(job_id, is_again=call.is_again)
    return await _answer(call, job_id)


@routes.post("/jobs/{job_id}/retry", status=202)
async def retry_job(call: Call, job_id: JobId) -> Answer[JobView]:
    """Try a job again that failed, was canceled or interrupted: the same job, its next attempt.

    A job that ran out of memory is not tried again unchanged; run it again with other settings instead.
    """
    await call.studio.jobs.retry(job_id, is_again=call.is_again)
    return await _answer(call, job_id)


@routes.post("/jobs/{job_id}/rerun", status=202)
async def rerun_job(call: Call, job_id: JobId, body: Rerun) -> Answer[JobView]:
    """Make a new job like this one, with the same settings or others.

    A training that goes on from a checkpoint may differ in how long it is, what it saves and shows, and how
    it uses memory; in anything else it would be another training.
    """
    fields = {"output": body.output, "name": body.name, "priority": body.priority}
    jobs = call.studio.jobs
    job = await jobs.rerun(job_id, call.new_id("job"), body.settings, body.checkpoint, **fields)
    return await _made(call, job)


@routes.post("/jobs/{job_id}/actions", status=202, errors=(StateConflict,))
async def order_job(call: Call, job_id: JobId, body: JobOrder) -> Answer[JobView]:
    """Give a running job an order that its kind knows; what comes of it is told in the job's events.

    A training knows `save_now` (a checkpoint and a file of weights), `sample_now` and `stop_after_epoch`.
    """
    await call.studio.jobs.order(job_id, body.action)
    return await _answer(call, job_id)


async def _made(call: Call, job: Job) -> Answer[JobView]:
    if wait_s := call.wait_s():
        job = await call.studio.jobs.wait(job.id, _has_ended, wait_s)
    answer = await _ended(call, job)
    headers = dict(answer.headers) | {"location": f"/jobs/{job.id}"}
    return msgspec.structs.replace(answer, headers=headers)


async def _ended(call: Call, job: Job) -> Answer[JobView]:
    return await _answer(call, job.id, 200 if _has_ended(job) else None)


async def _answer(call: Call, job_id: str, status: int | None = None) -> Answer[JobView]:
    # Before the reading: what happens in between is told again.
    last_event_id = call.studio.events.last_id
    whole = await call.studio.jobs.whole(job_id)
    job = whole.job
    kind = call.studio.jobs.kinds.get(job.kind)
    view = view_of(whole, kind, call.studio.queue.progress_of(job), last_event_id)
    # No `etag=`: that would answer 304 though the progress is another.
    return Answer(body=view, status=status, headers={"etag": _etag(job)})


def _page(call: Call, query: JobsQuery, found: Listed) -> JobPage:
    shown = found.jobs[: query.limit]
    kinds, queue = call.studio.jobs.kinds, call.studio.queue
    cursor = None
    if len(found.jobs) > len(shown):
        last = shown[-1]
        is_queue = query.order == "queue"
        place = (last.priority, last.position, last.id) if is_queue else (found.numbers[len(shown) - 1],)
        cursor = cursor_of(*place)
    return JobPage(
        items=[
            summary_of(job, kinds.get(job.kind), found.positions.get(job.id), queue.progress_of(job))
            for job in shown
        ],
        next_cursor=cursor,
        total=found.total,
    )


def _states(text: str | None) -> list[State] | None:
    if text is None:
        return None
    named = [each.strip() for each in text.split(",")]
    if unknown := set(named) - set(STATES):
        raise invalid([Problem("$.query.state", f"`{min(unknown)}` is no state; {', '.join(STATES)} are")])
    return [state for state in STATES if state in named]


def _has_ended(job: Job) -> bool:
    return job.state in TERMINAL


def _etag(job: Job) -> str:
    return etag(job.id, job.name, job.priority, job.state, job.reason, job.attempt)
