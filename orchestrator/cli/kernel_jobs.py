"""A kernel of a command's own, for one job: no studio, no store. What the job says is shown as it comes."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from contract.errors import InternalError
from contract.handshake import LimitsWanted
from contract.notifications import Artifact, Log, Progress
from contract.rules.paths import to_wire
from orchestrator.cli.output import Output
from orchestrator.hosting.client import STDERR_TAIL, KernelClient, connect
from orchestrator.hosting.kernels import kernel_command
from orchestrator.ids import new_id
from orchestrator.settings import Settings, load


@asynccontextmanager
async def own_kernel(settings: Settings, folders: Iterable[str]) -> AsyncIterator[KernelClient]:
    """A kernel that may use `folders`, absolute as this system names them, and no others.

    Raises KernelUnavailable, KernelDied, KernelTimeout and SettingsInvalid. With a bug of the kernel comes
    what it said of it.
    """
    last_words = bytearray()

    def keep(chunk: bytes) -> None:
        last_words.extend(chunk)
        del last_words[:-STDERR_TAIL]

    limits = LimitsWanted(max_image_pixels=settings.limits.max_image_pixels)
    roots = list(dict.fromkeys(map(to_wire, folders)))
    try:
        async with connect(kernel_command(settings), roots=roots, limits=limits, on_stderr=keep) as kernel:
            yield kernel
    except InternalError as error:
        error.details["stderr_tail"] = last_words.decode(errors="replace")
        raise


async def run_job(
    home: Path, method: str, params: Mapping[str, Any], folders: Iterable[str], output: Output
) -> Any:
    """Run a job to its end; its outcome. Raises what the kernel raises."""
    async with own_kernel(load(home), folders) as kernel:
        try:
            return await kernel.run(
                method, {"job_id": new_id("job"), **params}, lambda _, said: show(said, output)
            )
        finally:
            output.end_progress()


def show(said: Any, output: Output) -> None:
    """What a job says of how it goes."""
    match said:
        case Progress():
            output.progress(said)
        case Log():
            output.event("log", level=said.level, message=said.message)
            output.note(said.message)
        case Artifact():
            labels = {"labels": said.labels} if said.labels else {}
            output.event(
                "artifact",
                role=said.role,
                path=said.path,
                size_bytes=said.bytes,
                sha256=said.sha256,
                **labels,
            )
