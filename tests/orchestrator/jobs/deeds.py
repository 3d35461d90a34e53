"""Kinds of jobs for tests, whose settings say what their kernel does, and a studio that has them."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from contract.base import Strict
from contract.notifications import Partial
from orchestrator.ids import new_id
from orchestrator.jobs.chooser import LaneSpec
from orchestrator.jobs.job import Job
from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.requests import JobRequest
from orchestrator.jobs.states import TERMINAL
from orchestrator.jobs.work import Prepared, Run
from orchestrator.settings import KernelSettings, Settings, load, save
from orchestrator.studio import Studio, open_studio

_PROGRAM: Final = Path(__file__).parent / "lane_kernel.py"
#: Seconds after which a wait has failed.
PATIENCE_S: Final = 20.0
#: So many times mean that the sink fails at the first.
SINK_FAILS: Final = 77


class Deed(Strict, frozen=True, kw_only=True):
    """What the kernel is to do, how often, and a file that it does it with."""

    deed: str = "finish"
    times: int = 1
    path: str | None = None


class DeedWork:
    """Has the kernel do the deed."""

    method: Final = "tag"
    version: Final = 2

    def __init__(self) -> None:
        self._items: list[Any] = []

    async def prepare(self, run: Run) -> Prepared:
        folder = run.studio.home.parent / "deeds"
        return Prepared(settings=run.job.settings, inputs={}, roots=[str(folder)])

    def take(self, run: Run, partial: Partial) -> None:
        self._items += partial.items
        if run.job.kind == "measure":
            for item in partial.items:
                run.metrics(item["index"] + 1, {"loss": float(item["index"])})
        if run.job.settings["times"] == SINK_FAILS:
            raise ValueError("the sink fails")

    async def finish(self, run: Run, outcome: Any | None) -> Any:
        return {"items": self._items, "had_outcome": outcome is not None}


class StudyWork:
    """Work of the studio: ends when its file is there, or at once."""

    async def run(self, run: Run) -> Any:
        run.progress("study", 1, 2)
        if run.job.settings["deed"] == "fail":
            raise ValueError("the very words")
        if run.job.settings["deed"] == "wait":
            await anyio.sleep_forever()
        if run.job.settings["deed"] == "chatter":
            for step in range(run.job.settings["times"]):
                run.progress("chatter", step, None, metrics={"noise": float(step)})
                run.log("info", f"step {step} {run.studio.keys.get('huggingface')}")
        made = run.folder / "made.txt"
        made.write_bytes(b"made")
        await run.artifact("text", made, "text/plain")
        return {"studied": True}


def _kind(name: str, lane: Any, work: Any = DeedWork, **fields: Any) -> Kind:
    return Kind(name=name, title=name, settings=Deed, lane=lane, work=work, sources=(), **fields)


KINDS: Final = {
    kind.name: kind
    for kind in (
        _kind("run", "device", resumable=True),
        _kind("once", "device", retries=0),
        _kind("obedient", "device", actions=("save_now", "stop_after_epoch"), stop_s=20.0),
        _kind("measure", "device", measures=True),
        _kind("resize", "cpu"),
        _kind("pictures", "cpu", prefers_device=True),
        _kind("study", "studio", StudyWork),
    )
}


class Bench:
    """A studio with these kinds, and the folder where its kernels are told when to go on."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio = studio
        self.folder = folder

    async def start(self, kind: str = "run", deed: str = "finish", **fields: Any) -> Job:
        """A new job."""
        settings: dict[str, Any] = {name: fields.pop(name) for name in ("times", "path") if name in fields}
        request = JobRequest(kind=kind, settings=settings | {"deed": deed}, **fields)
        return await self.studio.jobs.create(new_id("job"), request)

    def go(self, job: Job) -> None:
        """Let a job that waits go on."""
        (self.folder / f"{job.id}.go").touch()

    async def until(self, job: Job, *states: str) -> Job:
        """The job, once it is in one of these states; without any, once it has ended."""
        return await self.when(job, lambda now: now.state in (states or TERMINAL))

    async def when(self, job: Job, is_there: Callable[[Job], bool]) -> Job:
        """The job, once that is so."""
        found = await self.studio.jobs.wait(job.id, is_there, PATIENCE_S)
        assert is_there(found), f"still {found.state} for {found.reason}: {found.error}"
        return found

    async def history(self, job: Job) -> list[tuple[str, str]]:
        """The states that it came to, and why."""
        whole = await self.studio.jobs.whole(job.id)
        return [(each.after, each.reason) for each in whole.transitions]

    def journal(self) -> list[list[str]]:
        """What the kernels wrote down: job, attempt, process of every beginning."""
        path = self.folder / "journal"
        return [line.split() for line in path.read_text("ascii").splitlines()] if path.exists() else []


def device(number: int, weight: float = 1.0) -> LaneSpec:
    """A lane for a device that is none."""
    return LaneSpec(id=f"fake:{number}", kind="device", weight=weight)


@asynccontextmanager
async def open_bench(
    folder: Path, devices: Sequence[LaneSpec] = (device(0),), *, run: bool = True
) -> AsyncIterator[Bench]:
    """A studio in `folder`; the same again is its next boot."""
    home, deeds = folder / "home", folder / "deeds"
    home.mkdir(exist_ok=True)
    deeds.mkdir(exist_ok=True)
    command = [sys.executable, "-P", str(_PROGRAM), str(deeds)]
    settings = load(home)
    if settings.kernel.command is None:
        save(home, Settings(kernel=KernelSettings(command=command)))
    async with open_studio(home, kinds=KINDS, devices=devices, run=run) as studio:
        yield Bench(studio, deeds)
