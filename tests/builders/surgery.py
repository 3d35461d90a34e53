"""Jobs of surgery without a host: what an engine is given, in a folder of its own."""

from pathlib import Path

from contract.methods.weights import FileOutput
from kernel.jobs import Job
from kernel.roots import Roots
from kernel.surgery import Surgery
from kernel.writer import Writer


def job(folder: Path) -> Job:
    """A job that may read and write in `folder`; what it says to its host waits and is not read."""
    return Job(
        job_id="a",
        attempt=1,
        method="merge",
        digest="0",
        roots=Roots([str(folder)]),
        writer=Writer(-1, lost=lambda: None, broken=lambda: None),
        progress_hz=1,
    )


def surgery(folder: Path, output: str | None = "out.safetensors", *, overwrite: bool = False) -> Surgery:
    """A job that makes `output` in `folder`."""
    made = None if output is None else FileOutput(file=str(folder / output), overwrite=overwrite)
    return Surgery(job(folder), made)
