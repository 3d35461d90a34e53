"""Opening the jobs of a studio: what older boots left is settled and told, then the queue runs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread

from orchestrator.jobs.chooser import LaneSpec
from orchestrator.jobs.jobs import Jobs
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.machine import gpu_lanes
from orchestrator.jobs.queue import Queue, open_queue
from orchestrator.jobs.recovery import recover, untold

if TYPE_CHECKING:
    from orchestrator.studio import Studio


class Opened(NamedTuple):
    """Both sides of the queue: the jobs, and how they run."""

    jobs: Jobs
    queue: Queue


@asynccontextmanager
async def open_jobs(
    studio: "Studio", kinds: Mapping[str, Kind], devices: Sequence[LaneSpec] | None, *, run: bool
) -> AsyncIterator[Opened]:
    """The jobs, with lanes for `devices`; None: for the GPUs of this machine. Unless `run`, none starts.

    Raises DiskFull and StoreDamaged.
    """
    await recover(studio.control, studio.boot, kinds)
    ledger = Ledger(studio.control, studio.events, studio.boot.boot_id, kinds)
    for job in await untold(studio.control, studio.telemetry, studio.boot):
        ledger.tell(job)
    if devices is None:
        devices = gpu_lanes(await anyio.to_thread.run_sync(studio.system.gpus)) if run else ()
    async with open_queue(studio, ledger, devices, run=run) as queue:
        yield Opened(Jobs(studio, ledger, queue), queue)
