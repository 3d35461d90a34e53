"""Attempts of trainings without a queue and without a kernel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contract.notifications import LogLevel
from orchestrator.ids import new_id
from orchestrator.jobs.job import Job
from orchestrator.jobs.requests import JobRequest
from orchestrator.jobs.sources import JobSource
from orchestrator.studio import Studio

SETTINGS: dict[str, Any] = {"training": {"steps": 4}}


class StubRun:
    """See `Run`; it notes what it is told."""

    def __init__(self, studio: Studio, job: Job) -> None:
        self.studio = studio
        self.job = job
        self.folder = studio.home / "runs" / job.id
        self.folder.mkdir(parents=True, exist_ok=True)
        self.measured: list[tuple[int, Mapping[str, float]]] = []
        self.lines: list[str] = []

    def progress(self, phase: str, step: int, total: int | None, **more: Any) -> None:
        """Nobody looks."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.measured.append((step, values))

    def log(self, level: LogLevel, message: str) -> None:
        self.lines.append(message)

    def publish(self, name: str, data: Any) -> None:
        """Nobody follows."""

    async def artifact(self, role: str, path: Path, media_type: str) -> None:
        raise AssertionError("a training announces its files by its kernel")


async def asked(studio: Studio, source: Mapping[str, Any], **fields: Any) -> Job:
    """A training that waits, of the model `model.safetensors`."""
    model = studio.home / "models" / "checkpoints" / "model.safetensors"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.touch()
    settings = {"model": {"base": str(model)}} | SETTINGS | fields.pop("settings", {})
    request = JobRequest(kind="train", settings=settings, source=msgspec.convert(source, JobSource), **fields)
    return await studio.jobs.create(new_id("job"), request)
