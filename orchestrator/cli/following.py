"""Following a job of the studio: from what it is now, event by event, over lost connections, to its end."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import anyio
import msgspec

from contract.errors import LorakeetError, NotReady, Unauthorized
from contract.notifications import Progress
from orchestrator.cli.api import JSON, Api, running_api
from orchestrator.cli.exits import Exit
from orchestrator.cli.jobs_shown import error_of, exit_of, state_line, told
from orchestrator.cli.output import Output
from orchestrator.cli.sse import Event, events
from orchestrator.jobs.states import TERMINAL

#: Seconds for which a studio that has gone may come back.
PATIENCE_S: Final = 60.0
_AGAIN_S: Final = 0.25


async def follow(studio: Api, home: Path, job_id: str, output: Output) -> Exit:
    """Show what a job does until it has ended. Raises NotReady where no studio runs, and NotFound."""
    job = await studio.get(f"/jobs/{job_id}")
    output.event("job", job=job)
    output.note(f"{job['name']} ({job['id']}): {state_line(job)}")
    if job["state"] not in TERMINAL:
        if studio.own is not None:
            raise NotReady("No studio runs, so the job waits.", hint="`lorakeet serve` starts one.")
        job = await _to_the_end(studio, home, job, output)
    return _end(job, output)


async def _to_the_end(studio: Api, home: Path, job: JSON, output: Output) -> JSON:
    """The job as it ended."""
    after = str(job["last_event_id"])
    tell = _Told(job, output)
    async with AsyncExitStack() as stack:
        while True:
            try:
                async with aclosing(_stream(studio, job["id"], after)) as stream:
                    async for event in stream:
                        after = event.id
                        if tell.event(event):
                            job = await studio.get(f"/jobs/{job['id']}")
                            if job["state"] in TERMINAL:
                                return job
            except (NotReady, Unauthorized):
                # It stopped, and may start again: elsewhere, with another token, and with the same events.
                output.note("The studio has gone; waiting for it to come back.", "yellow")
                studio = await _back(home, stack)


async def _stream(studio: Api, job_id: str, after: str) -> AsyncGenerator[Event]:
    headers = {"last-event-id": after}
    async with studio.stream("/events", headers, topics=f"job:{job_id}") as lines:
        async for event in events(lines):
            yield event
    raise NotReady("The studio ended the stream.")


async def _back(home: Path, stack: AsyncExitStack) -> Api:
    """The API of the studio, once it runs again. Raises NotReady."""
    with anyio.move_on_after(PATIENCE_S):
        while True:
            await anyio.sleep(_AGAIN_S)
            if (found := await running_api(home, stack)) is not None:
                return found
    raise NotReady("The studio has not come back.", hint="The job goes on when it does: `lorakeet serve`.")


class _Told:
    """Shows the events of a job."""

    def __init__(self, job: JSON, output: Output) -> None:
        self._output = output
        self._training = None
        if job["kind"] == "train":
            from orchestrator.cli.training_shown import TrainingShown

            self._training = TrainingShown(output, job["settings"]["training"].get("epochs"))

    def event(self, event: Event) -> bool:
        """Show one; whether it may be the end, so that the job has to be looked at."""
        output = self._output
        match event.name:
            case "job.progress":
                self._progress(event.data)
            case "job.log":
                for line in event.data["lines"]:
                    output.event("log", level=line["level"], message=line["message"])
                    output.note(line["message"], "yellow" if line["level"] in ("warning", "error") else "dim")
            case "job.item":
                output.event("items", items=event.data["items"])
            case "job.artifact":
                self._artifact(event.data["artifact"])
            case "job.metrics":
                self._samples(event.data["samples"])
            case "reset":
                return True
            case _ if "state" in event.data:
                output.event("changed", job=event.data)
                output.note(state_line(event.data))
                return bool(event.data["state"] in TERMINAL)
        return False

    def _progress(self, data: JSON) -> None:
        step = msgspec.convert({"job_id": data["id"], **data["progress"]}, Progress)
        show = self._output.progress if self._training is None else self._training.progress
        show(step)

    def _artifact(self, artifact: JSON) -> None:
        self._output.event("artifact", artifact=artifact)
        if self._training is not None:
            self._training.made(artifact["role"], artifact["name"], artifact["labels"])

    def _samples(self, samples: list[JSON]) -> None:
        self._output.event("metrics", samples=samples)
        if self._training is not None and samples:
            self._training.measured(samples[-1]["values"].get("memory"))


def _end(job: JSON, output: Output) -> Exit:
    output.end_progress()
    output.event("finished", job=job)
    output.say(f"{job['name']}: {state_line(job)}")
    for line in told(job):
        output.say(f"  {line}")
    error: LorakeetError | None = error_of(job)
    if error is not None and error.hint:
        output.note(f"  {error.hint}")
    return exit_of(job)
