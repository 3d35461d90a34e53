"""How the studio is doing, as metrics: asked for now and then, so nothing of it is counted beforehand."""

import os
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio.to_thread

from orchestrator import __version__
from orchestrator.api.metrics import Metric, Sample
from orchestrator.jobs.queue import QueueView
from orchestrator.jobs.states import STATES

if TYPE_CHECKING:
    from orchestrator.studio import Studio


async def metrics_of(studio: "Studio") -> list[Metric]:
    """Every metric of a studio."""
    from orchestrator.machine.system import free_bytes

    free = await anyio.to_thread.run_sync(free_bytes, studio.home)
    counts = await studio.control.read(_job_counts)
    queue = await studio.queue.view()
    return [
        *studio.requests.metrics(),
        *_of_jobs(counts),
        *_of_queue(queue),
        *_of_events(studio),
        *_of_process(studio),
        _gauge("lorakeet_disk_free_bytes", "Bytes free in the data directory.", free),
    ]


def _of_jobs(counts: dict[str, int]) -> Iterator[Metric]:
    samples = [Sample(counts.get(state, 0), (("state", state),)) for state in STATES]
    yield Metric("lorakeet_jobs", "gauge", "Jobs by state.", samples)


def _of_queue(queue: QueueView) -> Iterator[Metric]:
    yield _gauge("lorakeet_queue_paused", "1 while nothing new starts.", queue.paused)
    lanes = [(each, ("lane", each.id)) for each in queue.lanes]
    yield Metric(
        "lorakeet_lane_jobs",
        "gauge",
        "Jobs that run, by lane.",
        [Sample(len(lane.job_ids), (label,)) for lane, label in lanes],
    )
    yield Metric(
        "lorakeet_lane_state",
        "gauge",
        "1 for the state in which a lane is.",
        [Sample(1, (label, ("state", lane.state))) for lane, label in lanes],
    )
    yield Metric(
        "lorakeet_kernel_restarts_total",
        "counter",
        "Kernels that were started after the death of another, by lane.",
        [Sample(lane.restarts, (label,)) for lane, label in lanes],
    )


def _job_counts(db: sqlite3.Connection) -> dict[str, int]:
    return dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())


def _of_events(studio: "Studio") -> Iterator[Metric]:
    events = studio.events
    yield _gauge("lorakeet_event_readers", "Clients that follow the stream of events.", events.readers)
    yield _counter("lorakeet_event_resets_total", "Readers told to read everything anew.", events.resets)
    yield _counter(
        "lorakeet_events_unkept_total", "Events that were shown and could not be kept.", events.unkept
    )


def _of_process(studio: "Studio") -> Iterator[Metric]:
    about = (("version", __version__), ("boot_id", studio.boot.boot_id))
    yield Metric("lorakeet_info", "gauge", "Which studio this is.", [Sample(1, about)])
    yield _gauge("process_start_time_seconds", "When it started.", studio.boot.started_ms / 1000)
    yield _gauge("process_resident_memory_bytes", "Memory of the studio's process.", _resident_bytes())
    yield _gauge(
        "lorakeet_event_loop_lag_seconds",
        "The longest delay of the event loop in the last ten seconds.",
        studio.lag.worst_s,
    )


def _gauge(name: str, text: str, value: float | None) -> Metric:
    return Metric(name, "gauge", text, [] if value is None else [Sample(value)])


def _counter(name: str, text: str, value: float) -> Metric:
    return Metric(name, "counter", text, [Sample(value)])


def _resident_bytes() -> int:
    import psutil

    resident: int = psutil.Process(os.getpid()).memory_info().rss
    return resident
