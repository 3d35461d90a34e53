"""What jobs leave behind: logs, metrics and files."""

from pathlib import Path
from typing import Annotated

import msgspec

from contract.base import Reply, Strict
from contract.notifications import LogLevel
from contract.rules.paths import from_wire
from orchestrator.api.calls import Call, FileAnswer
from orchestrator.api.pages import PageQuery, cursor_of, place_of
from orchestrator.api.registry import Routes
from orchestrator.api.routes.jobs import JobId
from orchestrator.jobs.artifacts import JobArtifact, artifact_of
from orchestrator.jobs.logs import Line

routes = Routes("jobs")

#: What browsers may show where they are; anything else is for downloading.
INLINE = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif", "video/mp4"})

Number = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
Role = Annotated[str, msgspec.Meta(max_length=64, description="What the files are, such as `sample`.")]
Keys = Annotated[str, msgspec.Meta(max_length=4096, description="Keys with commas, such as `loss,lr`.")]


class LogQuery(Strict, frozen=True, kw_only=True):
    """Which lines."""

    tail: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="Lines from the end.")] = 200
    level: Annotated[LogLevel, msgspec.Meta(description="The least important level.")] = "debug"


class JobLog(Reply, kw_only=True):
    """The last lines of a log, the oldest first."""

    lines: list[Line]


class MetricsQuery(Strict, frozen=True, kw_only=True):
    """Which values, and how many points of each key at most."""

    keys: Keys | None = None
    from_step: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    max_points: Annotated[int, msgspec.Meta(ge=4, le=100_000)] = 2_000


class MetricSeries(Reply, kw_only=True):
    """The values of one key: `values[n]` was measured at `steps[n]`. Extremes are never left out."""

    key: str
    steps: list[int]
    values: list[float]


class JobMetrics(Reply, kw_only=True):
    """What a job has measured, by key."""

    series: list[MetricSeries]


class ArtifactsQuery(PageQuery, frozen=True, kw_only=True):
    """Which files."""

    role: Role | None = None


class JobArtifactPage(Reply, kw_only=True):
    """Some files of a job, by number; `total` counts those of the role that was asked for."""

    items: list[JobArtifact]
    next_cursor: str | None
    total: int


@routes.get("/jobs/{job_id}/log")
async def read_job_log(call: Call, job_id: JobId, query: LogQuery) -> JobLog:
    """Read the end of a job's log."""
    return JobLog(lines=await call.studio.jobs.log(job_id, query.tail, query.level))


@routes.get("/jobs/{job_id}/log/file", gives="application/x-ndjson")
async def download_job_log(call: Call, job_id: JobId) -> FileAnswer:
    """Download a job's whole log, one JSON object a line."""
    path = await call.studio.jobs.log_file(job_id)
    return FileAnswer(path=path, media_type="application/x-ndjson", name=f"{job_id}.jsonl")


@routes.get("/jobs/{job_id}/metrics")
async def read_job_metrics(call: Call, job_id: JobId, query: MetricsQuery) -> JobMetrics:
    """Read what a job has measured, as few points as a chart needs."""
    keys = None if query.keys is None else [each.strip() for each in query.keys.split(",")]
    series = await call.studio.jobs.metrics(job_id, keys, query.from_step, query.max_points)
    return JobMetrics(
        series=[
            MetricSeries(
                key=key, steps=[point.step for point in points], values=[point.value for point in points]
            )
            for key, points in series.items()
        ]
    )


@routes.get("/jobs/{job_id}/artifacts")
async def list_job_artifacts(call: Call, job_id: JobId, query: ArtifactsQuery) -> JobArtifactPage:
    """List the files that a job has made, but those that have given way to newer ones."""
    after = place_of(query.cursor, int)[0] if query.cursor else 0
    every = (await call.studio.jobs.whole(job_id)).artifacts
    made = [each for each in every if query.role in (None, each.role)]
    rest = [each for each in made if each.number > after]
    shown = rest[: query.limit]
    return JobArtifactPage(
        items=[artifact_of(each) for each in shown],
        next_cursor=cursor_of(shown[-1].number) if len(rest) > len(shown) else None,
        total=len(made),
    )


@routes.get("/jobs/{job_id}/artifacts/{number}", gives="*/*")
async def download_job_artifact(call: Call, job_id: JobId, number: Number) -> FileAnswer:
    """Download a file that a job has made."""
    artifact = await call.studio.jobs.artifact(job_id, number)
    return FileAnswer(
        path=Path(from_wire(artifact.path)),
        media_type=artifact.media_type,
        inline=artifact.media_type in INLINE,
    )
