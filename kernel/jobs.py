"""The jobs of this process: who runs, who has ended and how, and what a running job may say.

A job is registered by the reader, in the order of the wire, before its handler starts: a cancel behind it
always finds it.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Literal

from contract.errors import AlreadyRunning, Busy, JobConflict, ShuttingDown, UnknownJob, WireError
from contract.methods.control import JobRecord, JobState, RunningJob
from contract.notifications import Artifact, LogLevel, Partial, Progress
from kernel.pace import Pace
from kernel.roots import Roots
from kernel.writer import Stream, Writer

CancelMode = Literal["graceful", "now"]


class Job:
    """One attempt of one job, as its handler sees it."""

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int,
        method: str,
        digest: str,
        roots: Roots,
        writer: Writer,
        progress_hz: float,
    ) -> None:
        from concurrent.futures import Future  # 4 ms, since it loads logging; `initialize` needs no job

        self.job_id = job_id
        self.attempt = attempt
        self.method = method
        self.digest = digest
        self.roots = roots
        #: Done as soon as somebody wants the job to stop, with how that is wanted first.
        self.cancel: Future[CancelMode] = Future()
        #: Whether it is to stop without a checkpoint, which may be said of a job that is stopping.
        self.wanted_now = False
        self.progress_now: Progress | None = None
        self.result: Any = None
        self.error: WireError | None = None
        #: Done once the job has ended.
        self.done: Future[None] = Future()
        #: Orders given by `control`, for the handler to take up at its next step.
        self.orders: SimpleQueue[str] = SimpleQueue()
        self._writer = writer
        self._stream = Stream()
        #: Seconds between two messages of a kind.
        self.interval_s = 1 / progress_hz
        self._paces: dict[str, Pace] = {}
        self._phase = ""
        self._said_at = 0.0

    @property
    def canceled(self) -> bool:
        return self.cancel.done()

    @property
    def ended(self) -> bool:
        return self.done.done()

    @property
    def state(self) -> JobState:
        if not self.ended:
            return "canceling" if self.canceled else "running"
        if self.error is None:
            return "succeeded"
        return "canceled" if self.error.data.kind == "canceled" else "failed"

    def continue_after(self, previous: "Job") -> None:
        """Number on from the attempt before: `seq` increases over the whole job."""
        self._stream.seq = previous._stream.seq

    def progress(
        self,
        phase: str,
        step: int = 0,
        total: int | None = None,
        *,
        unit: str = "items",
        message: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Say where the job stands: at most `progress_hz` times a second, each phase and the last step."""
        now = time.monotonic()
        is_new = phase != self._phase
        pace = self._paces.setdefault(phase, Pace())
        if is_new:
            self._phase = phase
            pace.begin(step, now)
        pace.go(step, now)
        said = Progress(
            job_id=self.job_id,
            phase=phase,
            step=step,
            total=total,
            unit=unit,
            metrics=dict(metrics or {}),
            message=message,
        )
        said.rate, said.eta_s = pace.rate, pace.eta_s(total)
        self.progress_now = said
        if is_new or step == total or now - self._said_at >= self.interval_s:
            self._said_at = now
            self._writer.progress(said, self._stream)

    def partial(self, items: list[Any], failed: list[Any]) -> None:
        """Hand over finished items; blocks while the host is far behind."""
        self._writer.lossless(
            "partial", Partial(job_id=self.job_id, items=items, failed=failed), self._stream
        )

    def artifact(self, artifact: Artifact) -> None:
        """Announce a finished file."""
        self._writer.lossless("artifact", artifact, self._stream)

    def log(self, level: LogLevel, message: str) -> None:
        """A line for a person."""
        self._writer.log(level, f"lorakeet.{self.method}", message, self.job_id)

    def end(self, result: Any = None, error: WireError | None = None) -> None:
        """Record the outcome; from here on the job says nothing more."""
        self.result, self.error = result, error
        self._stream.closed = True
        self.done.set_result(None)

    def record(self) -> JobRecord:
        return JobRecord(
            job_id=self.job_id,
            method=self.method,
            attempt=self.attempt,
            state=self.state,
            progress=self.progress_now,
            result=self.result,
            error=self.error,
        )

    def running(self) -> RunningJob:
        return RunningJob(
            job_id=self.job_id,
            method=self.method,
            attempt=self.attempt,
            state=self.state,
            progress=self.progress_now,
        )


class Jobs:
    """Every job that this process runs, and the last ones it ran."""

    def __init__(self, *, max_running: int, outcomes_kept: int) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._max_running = max_running
        self._outcomes_kept = outcomes_kept
        self.accepting = True

    def admit(self, job: Job) -> Job:
        """Register `job`, or return the ended one that it repeats.

        Raises AlreadyRunning, JobConflict, Busy, ShuttingDown.
        """
        with self._lock:
            known = self._jobs.get(job.job_id)
            if known is not None and (repeated := _repeated(known, job)) is not None:
                return repeated
            if not self.accepting:
                raise ShuttingDown("This kernel is shutting down and takes no more jobs.")
            if len(running := self._running()) >= self._max_running:
                raise Busy(
                    f"This kernel runs {len(running)} of at most {self._max_running} jobs.",
                    details={"running": [each.job_id for each in running]},
                    hint="Wait for the job to end, or start another kernel.",
                )
            if known is not None:
                job.continue_after(known)
            self._jobs[job.job_id] = job
            self._jobs.move_to_end(job.job_id)
            self._forget_oldest()
            return job

    def forget(self, job: Job) -> None:
        """Undo an admission: the params were refused before anything ran, so the id is free again."""
        with self._lock:
            if self._jobs.get(job.job_id) is job:
                del self._jobs[job.job_id]

    def get(self, job_id: str) -> Job:
        """The newest attempt of a job. Raises UnknownJob."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(f"This kernel knows no job `{job_id}`.", where="$.params.job_id")
        return job

    def running(self) -> list[Job]:
        with self._lock:
            return self._running()

    def cancel_all(self) -> list[Job]:
        """Ask every running job to stop; those that were asked."""
        asked = self.running()
        for job in asked:
            request_cancel(job, "graceful")
        return asked

    def _running(self) -> list[Job]:
        return [job for job in self._jobs.values() if not job.ended]

    def _forget_oldest(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.ended]
        for job_id in ended[: max(0, len(ended) - self._outcomes_kept)]:
            del self._jobs[job_id]


def request_cancel(job: Job, mode: CancelMode) -> None:
    """Ask a job to stop; asking again changes nothing, but that it may be wanted faster."""
    from concurrent.futures import InvalidStateError

    job.wanted_now = job.wanted_now or mode == "now"
    with suppress(InvalidStateError):
        job.cancel.set_result(mode)


def _repeated(known: Job, job: Job) -> Job | None:
    """The ended job that `job` repeats, or None where it is a further attempt. Raises the identity errors."""
    where = "$.params.job_id"
    details = {"state": known.state, "attempt": known.attempt}
    if (known.method, known.digest) != (job.method, job.digest):
        what = "other params" if known.method == job.method else f"the method `{known.method}`"
        raise JobConflict(f"Job `{job.job_id}` is known with {what}.", where=where, details=details)
    if not known.ended:
        raise AlreadyRunning(f"Job `{job.job_id}` is running.", where=where, details=details)
    if job.attempt < known.attempt:
        raise JobConflict(
            f"Attempt {known.attempt} of job `{job.job_id}` has already been made.",
            where=where,
            details=details,
        )
    return known if job.attempt == known.attempt else None
