"""`lorakeet doctor`: what is installed, on what it can run, what is wrong, and the command that mends it."""

import argparse
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from contract.errors import LorakeetError
from contract.methods.control import EngineProbe, ProbeResult
from contract.notifications import Device, KernelProblem
from orchestrator import __version__
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.client import connect
from orchestrator.kernels import kernel_command
from orchestrator.settings import Settings

#: What the light half is made of.
PACKAGES: Final = ("msgspec", "anyio", "starlette", "uvicorn", "httpx", "rich")
#: A fresh checkpoint and its optimizer fit in this.
_LITTLE_DISK: Final = 10 * 1024**3
#: Loading torch from a cold disk takes its time.
_PROBE_S: Final = 180.0


class Report(msgspec.Struct, kw_only=True):
    """Everything `doctor` found. Sizes are bytes."""

    lorakeet: str
    python: str
    platform: str
    packages: dict[str, str]
    home: str
    disk_free: int
    kernel_command: list[str] | None = None
    kernel_version: str | None = None
    devices: list[Device] = []
    engines: dict[str, str] = {}
    probes: list[EngineProbe] = []
    problems: list[KernelProblem] = []


def add(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


async def run(arguments: argparse.Namespace, settings: Settings, output: Output) -> Exit:
    """Look at everything, try everything, say everything."""
    report = _host(arguments.home)
    try:
        report.kernel_command = kernel_command(settings)
        await _ask_kernel(report, report.kernel_command)
    except LorakeetError as error:
        report.problems.append(KernelProblem(kind=error.kind, message=error.message, command=error.hint))
    output.event("report", **msgspec.to_builtins(report))
    for line in _lines(report):
        output.say(line)
    return Exit.PROBLEMS if report.problems else Exit.DONE


def _host(home: Path) -> Report:
    free = shutil.disk_usage(_existing(home)).free
    report = Report(
        lorakeet=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        home=str(home),
        disk_free=free,
    )
    if free < _LITTLE_DISK:
        report.problems.append(
            KernelProblem(
                kind="disk_full",
                message=f"Only {_size(free)} are free where {home} lies.",
                command="lorakeet --data DIR … (a folder on a larger disk), or set LORAKEET_HOME",
            )
        )
    return report


async def _ask_kernel(report: Report, command: list[str]) -> None:
    async with connect(command) as kernel:
        report.kernel_version = kernel.info.kernel.version
        found: ProbeResult = await kernel.call("probe", timeout_s=_PROBE_S)
    report.devices, report.engines = found.state.devices, found.state.engines
    report.probes = found.engines
    report.problems += [*found.state.problems, *_not_working(found)]


def _not_working(found: ProbeResult) -> Iterator[KernelProblem]:
    has_gpu = any(device.kind == "cuda" for device in found.state.devices)
    for engine in found.engines:
        if not engine.loads:
            yield KernelProblem(
                kind="load_failed",
                message=f"{engine.name}: {engine.message}",
                command='pip install --force-reinstall "lorakeet[kernel]"',
            )
        elif has_gpu and engine.providers in (["cpu"], ["CPUExecutionProvider"]):
            yield KernelProblem(
                kind="device_lost",
                message=f"There is an NVIDIA GPU, but {engine.name} runs on the CPU.",
                command=_GPU_COMMANDS[engine.name],
            )


_GPU_COMMANDS: Final = {
    "onnxruntime": 'pip install "onnxruntime-gpu[cuda,cudnn]"',
    "torch": "pip install --force-reinstall torch",
}


def _lines(report: Report) -> Iterator[str]:
    yield f"Lorakeet {report.lorakeet}, Python {report.python}, {report.platform}"
    yield "Packages: " + ", ".join(f"{name} {version}" for name, version in report.packages.items())
    yield f"Data: {report.home}, {_size(report.disk_free)} free"
    if report.kernel_version is not None:
        yield f"Kernel {report.kernel_version}: {' '.join(report.kernel_command or ())}"
    yield from (f"  device {each.id}: {each.name}, {_memory(each)}" for each in report.devices)
    if report.engines:
        yield "  installed: " + ", ".join(f"{name} {version}" for name, version in report.engines.items())
    for engine in report.probes:
        works = (
            f"works on {', '.join(engine.providers)}" if engine.loads else f"does not work: {engine.message}"
        )
        yield f"  {engine.name} {works}"
    if not report.problems:
        yield "No problems found."
    for problem in report.problems:
        yield f"Problem: {problem.message}"
        if problem.command:
            yield f"  mend it: {problem.command}"


def _memory(device: Device) -> str:
    if device.memory_total is None:
        return "memory unknown"
    return f"{_size(device.memory_free or 0)} of {_size(device.memory_total)} free"


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
