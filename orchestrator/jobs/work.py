"""What a job does, behind two interfaces: work that a kernel does, and work of the studio's own processes.

A work object is made anew for every attempt and may hold the state of that attempt. It knows no states and
no lanes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from contract.notifications import LogLevel, Partial
from orchestrator.jobs.job import Job

if TYPE_CHECKING:
    from orchestrator.studio import Studio


class Run(Protocol):
    """One attempt of one job, given to its work. Once the attempt has ended, what is said to it is lost."""

    @property
    def studio(self) -> "Studio": ...

    @property
    def job(self) -> Job:
        """As it was when the attempt began."""

    @property
    def folder(self) -> Path:
        """`runs/<job_id>/` in the data directory; it exists, and earlier attempts wrote into it, too."""

    def progress(
        self,
        phase: str,
        step: int,
        total: int | None,
        *,
        unit: str = "items",
        rate: float | None = None,
        eta_s: float | None = None,
        metrics: Mapping[str, float] | None = None,
        message: str | None = None,
    ) -> None:
        """Say where it stands, as often as one likes. `rate` is units a second."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Keep what was measured at a step, from 1 on; said again, it replaces what was said before."""

    def log(self, level: LogLevel, message: str) -> None:
        """A line for a person."""

    def publish(self, name: str, data: Any) -> None:
        """An event for those who follow this job."""

    async def artifact(self, role: str, path: Path, media_type: str) -> None:
        """Keep a finished file with the job. Raises FileMissing, FileUnreadable and DiskFull."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What a kernel is to do: `settings` as they travel, and absolute paths under `roots`."""

    settings: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None
    roots: list[str]


class KernelWork(Protocol):
    """A job that a kernel does. `method` and `version` (`v` of its payload) say how it is asked."""

    @property
    def method(self) -> str: ...

    @property
    def version(self) -> int: ...

    async def prepare(self, run: Run) -> Prepared | None:
        """Bring together what the kernel needs; None where nothing is left to be done.

        A manifest is written by the first attempt, and kept.
        """

    def take(self, run: Run, partial: Partial) -> None:
        """Take finished items. Called in the event loop, in order; must not block."""

    async def finish(self, run: Run, outcome: Any | None) -> Any:
        """Keep what was taken; called after every `prepare` that went well, at the end of its attempt.

        `outcome` is None where no kernel gave one: it had nothing to do, failed, or was canceled; where one
        said what it had done until it was canceled, that, in plain values. Returns the outcome as it is kept,
        in plain values or Structs.
        """


class StudioWork(Protocol):
    """A job that the studio does in its worker processes."""

    async def run(self, run: Run) -> Any:
        """Do it; the outcome as it is kept, in plain values or Structs. Canceled where the job is."""
