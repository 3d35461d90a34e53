"""An attempt of a tagging job without queue and kernel: the test says what comes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contract.errors import ImageInvalid
from contract.methods.job import FailedImage
from contract.methods.tag import TaggedImage, TagSettings
from contract.notifications import LogLevel, Partial
from orchestrator.datasets.tagging import TagResult, TagWork
from orchestrator.jobs.job import Job
from orchestrator.jobs.work import Prepared
from orchestrator.studio import Studio

JOB = "job_01JD4Q6T9V3XK2M8N5R7W0Y1Z4"
MODEL = {"model": {"repo": "some/tagger"}}


class StubRun:
    """See `orchestrator.jobs.work.Run`; it keeps what was said to it."""

    def __init__(
        self,
        studio: Studio,
        source: dict[str, Any],
        *,
        existing: str = "skip",
        settings: Mapping[str, Any] = MODEL,
        attempt: int = 1,
    ) -> None:
        self.studio = studio
        whole = msgspec.to_builtins(msgspec.convert(settings, TagSettings))
        self.job = _job(whole, source, existing, attempt)
        self.folder = studio.home / "runs" / JOB
        self.folder.mkdir(parents=True, exist_ok=True)
        self.events: list[tuple[str, Any]] = []
        self.lines: list[str] = []
        self.artifacts: list[tuple[str, Path, str]] = []

    def progress(self, phase: str, step: int, total: int | None, **more: Any) -> None:
        """Nobody looks."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing here measures."""

    def log(self, level: LogLevel, message: str) -> None:
        self.lines.append(message)

    def publish(self, name: str, data: Any) -> None:
        self.events.append((name, data))

    async def artifact(self, role: str, path: Path, media_type: str) -> None:
        self.artifacts.append((role, path, media_type))


class Attempt:
    """One attempt, as a kernel would see it."""

    def __init__(self, run: StubRun) -> None:
        self.run = run
        self.work = TagWork()
        self.prepared: Prepared | None = None
        self.paths: list[str] = []

    async def begin(self) -> list[str]:
        """What the kernel is given: the paths in its manifest; nothing where there is nothing to do."""
        self.prepared = await self.work.prepare(self.run)
        if self.prepared is None:
            return []
        self.paths = _listed(self.prepared.inputs["manifest"])
        return self.paths

    def say(self, captions: Mapping[str, str]) -> None:
        """Report images by the end of their path, with these captions."""
        items = [
            msgspec.to_builtins(_tagged(self._index(name), name, text)) for name, text in captions.items()
        ]
        self.work.take(self.run, Partial(job_id=JOB, items=items))

    def fail(self, name: str) -> None:
        """Report an image that could not be done."""
        error = ImageInvalid("It is no picture.", where=name).to_wire()
        failed = [msgspec.to_builtins(FailedImage(index=self._index(name), image=name, error=error))]
        self.work.take(self.run, Partial(job_id=JOB, failed=failed))

    async def end(self, *, well: bool = True) -> TagResult:
        """The kernel has answered; `well`, or not."""
        outcome = {"tagged": len(self.paths), "provider": "CPUExecutionProvider"} if well else None
        return await self.work.finish(self.run, outcome)

    def _index(self, name: str) -> int:
        return next(index for index, path in enumerate(self.paths) if path.endswith(name))


def _listed(manifest: str) -> list[str]:
    return [msgspec.json.decode(line)["path"] for line in Path(manifest).read_bytes().splitlines()]


def _tagged(index: int, name: str, text: str) -> TaggedImage:
    return TaggedImage(
        index=index, image=name, width=10, height=10, caption=text, rating={"general": 1.0}, tags=[]
    )


def _job(settings: dict[str, Any], source: dict[str, Any], existing: str, attempt: int) -> Job:
    return Job(
        id=JOB,
        kind="tag",
        name="Tag",
        state="running",
        reason="kernel_started",
        settings=settings,
        source=source,
        output=None,
        existing=existing,
        dataset_id=source.get("dataset"),
        parent_id=None,
        priority=0,
        position=0.0,
        attempt=attempt,
        boot_id=None,
        run_epoch=1,
        lane="cpu",
        progress=None,
        error=None,
        outcome=None,
        created_ms=0,
        changed_ms=0,
        started_ms=0,
        finished_ms=None,
    )
