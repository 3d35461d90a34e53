"""The slower control methods, and `probe`."""

import asyncio

import anyio.to_thread

from contract.errors import InvalidParams, UnknownJob
from contract.methods.control import (
    ControlParams,
    ControlResult,
    JobGetParams,
    JobRecord,
    NoParams,
    ProbeResult,
    ShutdownParams,
    ShutdownResult,
    UnloadParams,
    UnloadResult,
)
from contract.methods.registry import METHODS
from kernel.installation import find_state
from kernel.jobs import Job
from kernel.session import Session


async def order(params: ControlParams, session: Session) -> ControlResult:
    """Hand an order to a running job. Raises UnknownJob, and InvalidParams for an action it does not know."""
    job = session.jobs.get(params.job_id)
    if job.ended:
        raise UnknownJob(f"Job `{job.job_id}` has ended.", where="$.params.job_id")
    actions = METHODS[job.method].types.actions
    if params.action not in actions:
        known = ", ".join(actions) or "none"
        raise InvalidParams(
            f"`{job.method}` does not know the action `{params.action}`; it knows {known}.",
            where="$.params.action",
        )
    job.orders.put(params.action)
    return ControlResult()


async def get_job(params: JobGetParams, session: Session) -> JobRecord:
    """What is known of a job. Raises UnknownJob."""
    return session.jobs.get(params.job_id).record()


async def unload(params: UnloadParams, session: Session) -> UnloadResult:
    """Release models."""
    unloaded, in_use = session.models.unload(params.models)
    return UnloadResult(unloaded=unloaded, in_use=in_use)


async def probe(params: NoParams, session: Session) -> ProbeResult:
    """Load every engine and say what works."""
    return await anyio.to_thread.run_sync(_probe, session)


def _probe(session: Session) -> ProbeResult:
    from kernel.engines.probe import probe_engines

    return ProbeResult(engines=probe_engines(), state=find_state(session.models.names))


async def shutdown(params: ShutdownParams, session: Session) -> ShutdownResult:
    """Take no more jobs, let running ones end or cancel them, then answer."""
    session.jobs.accepting = False
    running = session.jobs.running()
    await _ended(running, params.deadline_s)
    canceled = session.jobs.cancel_all()
    await _ended(canceled, session.limits.grace_s)
    return ShutdownResult(
        finished=[job.job_id for job in running if job not in canceled],
        canceled=[job.job_id for job in canceled],
    )


async def _ended(jobs: list[Job], timeout_s: float) -> None:
    if jobs:
        await asyncio.wait([asyncio.wrap_future(job.done) for job in jobs], timeout=timeout_s)
