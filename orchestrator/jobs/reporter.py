"""What an attempt says while it runs, on its way to browsers, to the disk and into the tables.

Saying is free and never waits: everything goes out together, four times a second at most. What is lossy,
progress, is told in its newest state; log lines, metrics and artifacts are all kept.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import msgspec

from contract.base import Reply
from contract.errors import LorakeetError
from contract.notifications import Artifact, LogLevel, Progress
from orchestrator.clock import now_ms, rfc3339
from orchestrator.jobs import artifacts, metrics
from orchestrator.jobs.job import Job
from orchestrator.jobs.logs import Line, LogFile
from orchestrator.jobs.table import Epoch, Overtaken, current, update

if TYPE_CHECKING:
    from orchestrator.studio import Studio

#: Seconds between two tellings of one job.
EVERY_S: Final = 0.25
#: Seconds between two keepings of the progress; each is a commit that waits for the disk.
KEEP_S: Final = 2.0
#: Lines in one event, and characters of their messages; the log has all of them.
MAX_LINES: Final = 200
MAX_TEXT: Final = 16 * 1024
#: Characters of a line.
MAX_LINE: Final = 16 * 1024
#: Samples that wait for a disk that is full, and in one event; the tables have all of them.
MAX_SAMPLES: Final = 20_000
MAX_TOLD_SAMPLES: Final = 100


class JobProgress(Reply, kw_only=True):
    """Where a job stands. `rate` is units a second; `total` and `eta_s` are null while they are not known."""

    at: str
    phase: str
    step: int
    total: int | None
    unit: str
    rate: float | None
    eta_s: float | None
    metrics: dict[str, float]
    message: str | None


class Reporter:
    """The voice of one attempt. `latest` is its newest progress. `measures`: metrics come by `measured`, and
    what progress says of them is only shown."""

    def __init__(
        self,
        studio: "Studio",
        job: Job,
        folder: Path,
        redact: Callable[[str], str],
        *,
        measures: bool = False,
    ) -> None:
        assert job.boot_id is not None
        self._studio: Final = studio
        self._job: Final = job
        self._epoch: Final = Epoch(job.boot_id, job.run_epoch)
        self._redact: Final = redact
        self._measures: Final = measures
        self._log: Final = LogFile(folder)
        self._lines = 0
        self._untold: deque[Line] = deque(maxlen=MAX_LINES)
        self._untold_count = 0
        self._samples: deque[metrics.Sample] = deque(maxlen=MAX_SAMPLES)
        self._untold_samples: deque[metrics.Sample] = deque(maxlen=MAX_TOLD_SAMPLES)
        self._untold_samples_count = 0
        self._made: list[Artifact] = []
        self._stderr = b""
        self._told_progress = self._kept_progress = True
        self._kept_at = 0.0
        self._dirty = anyio.Event()
        self._is_closed = False
        self.latest: JobProgress | None = None

    def progress(self, said: Progress) -> None:
        """Where it stands."""
        if self._is_closed:
            return
        self.latest = _progress(said, self._redact)
        if said.metrics and not self._measures:
            self._samples.append(metrics.Sample(said.step, now_ms(), said.metrics))
        self._told_progress = self._kept_progress = False
        self._dirty.set()

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """What was measured at a step."""
        if self._is_closed:
            return
        sample = metrics.Sample(step, now_ms(), values)
        self._samples.append(sample)
        self._untold_samples.append(sample)
        self._untold_samples_count += 1
        self._dirty.set()

    def line(self, level: LogLevel, logger: str, message: str, dropped: int = 0) -> None:
        """A line of the log."""
        if self._is_closed:
            return
        self._lines += 1
        line = Line(
            at=rfc3339(now_ms()),
            level=level,
            logger=logger,
            message=self._redact(message)[:MAX_LINE],
            attempt=self._job.attempt,
            number=self._lines,
            dropped=dropped,
        )
        self._log.add(line)
        self._untold.append(line)
        self._untold_count += 1
        self._dirty.set()

    def stderr(self, chunk: bytes) -> None:
        """What its kernel said beside the contract; whole lines become lines of the log."""
        *lines, self._stderr = (self._stderr + chunk).split(b"\n")
        if len(self._stderr) > MAX_LINE:
            lines, self._stderr = [*lines, self._stderr], b""
        for line in lines:
            if text := line.decode("utf-8", "replace").rstrip():
                self.line("info", "stderr", text)

    def artifact(self, made: Artifact) -> None:
        """A finished file."""
        if not self._is_closed:
            self._made.append(made)
            self._dirty.set()

    async def keep(self, made: Artifact) -> None:
        """The same, and wait until it is kept. Raises DiskFull and StoreDamaged."""
        with suppress(Overtaken):
            kept = await self._studio.control.write(lambda db: artifacts.keep(db, self._epoch, made))
            self._event("job.artifact", {"artifact": artifacts.artifact_of(kept)}, kept=True)

    def publish(self, name: str, data: Any) -> None:
        """An event for those who follow the job."""
        if not self._is_closed:
            self._studio.events.publish((f"job:{self._job.id}",), name, data)

    async def serve(self) -> None:
        """Tell what was said, until canceled."""
        while True:
            await self._dirty.wait()
            self._dirty = anyio.Event()
            with anyio.CancelScope(shield=True), suppress(LorakeetError):
                await self._tell()
            await anyio.sleep(EVERY_S)

    async def close(self) -> None:
        """Tell the rest; nothing is taken any more. Raises DiskFull and StoreDamaged: a file is not kept."""
        if self._stderr:
            self.stderr(b"\n")
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            await self._tell()

    async def flush_log(self) -> None:
        """Bring the log to its file."""
        await anyio.to_thread.run_sync(self._log.flush)

    async def _tell(self) -> None:
        await self._tell_lines()
        self._tell_progress()
        self._tell_samples()
        await self._keep_samples()
        await self._keep_artifacts()
        await self._keep_progress()

    async def _tell_lines(self) -> None:
        lines, count = _newest(self._untold), self._untold_count
        self._untold.clear()
        self._untold_count = 0
        if count:
            await self.flush_log()
            # Not kept: the log is on the disk, and the numbers of the lines say whether one is missing.
            self._event("job.log", {"lines": lines, "skipped": count - len(lines)})

    def _tell_progress(self) -> None:
        if not self._told_progress:
            self._told_progress = True
            # Not kept: the next one says more, and the job itself has the newest.
            self._event("job.progress", {"progress": self.latest})

    def _tell_samples(self) -> None:
        samples, count = list(self._untold_samples), self._untold_samples_count
        self._untold_samples.clear()
        self._untold_samples_count = 0
        if count:
            points = [{"step": each.step, "values": _finite(each.values)} for each in samples]
            # Not kept: the tables have them.
            self._event("job.metrics", {"samples": points, "skipped": count - len(points)})

    async def _keep_samples(self) -> None:
        samples = list(self._samples)
        if not samples:
            return
        self._samples.clear()
        try:
            await metrics.keep(self._studio.telemetry, self._job.id, samples)
        except LorakeetError:
            self._samples.extendleft(reversed(samples))

    async def _keep_artifacts(self) -> None:
        while self._made:
            await self.keep(self._made[0])
            del self._made[0]

    async def _keep_progress(self) -> None:
        due = self._is_closed or time.monotonic() - self._kept_at >= KEEP_S
        if self._kept_progress or not due:
            return
        self._kept_progress, self._kept_at = True, time.monotonic()
        encoded = msgspec.json.encode(self.latest)
        with suppress(Overtaken):
            await self._studio.control.write(
                lambda db: update(db, current(db, self._job.id, self._epoch).id, {"progress": encoded})
            )

    def _event(self, name: str, data: dict[str, Any], *, kept: bool = False) -> None:
        about = {"id": self._job.id, "attempt": self._job.attempt}
        self._studio.events.publish((f"job:{self._job.id}",), name, about | data, kept=kept)


def _progress(said: Progress, redact: Callable[[str], str]) -> JobProgress:
    eta_s = said.eta_s
    if eta_s is None and said.rate and said.total is not None:
        eta_s = max(0.0, (said.total - said.step) / said.rate)
    return JobProgress(
        at=rfc3339(now_ms()),
        phase=said.phase,
        step=said.step,
        total=said.total,
        unit=said.unit,
        rate=said.rate,
        eta_s=eta_s,
        metrics=_finite(said.metrics),
        message=None if said.message is None else redact(said.message),
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Without what JSON cannot say."""
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _newest(lines: deque[Line]) -> list[Line]:
    """As many of the last lines as an event may have."""
    taken: list[Line] = []
    room = MAX_TEXT
    for line in reversed(lines):
        room -= len(line.message)
        if taken and room < 0:
            break
        taken.append(line)
    return taken[::-1]
