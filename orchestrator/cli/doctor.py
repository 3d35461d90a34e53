"""`lorakeet doctor`: what is installed, on what it can run, what is wrong, and the command that mends it."""

import argparse
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from contract.errors import LorakeetError
from contract.methods.control import EngineProbe, ProbeResult
from contract.notifications import Device, KernelProblem, KernelState
from contract.rules.paths import from_wire, to_wire
from orchestrator import __version__
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.client import connect
from orchestrator.kernels import INSTALL, kernel_command
from orchestrator.settings import load

#: What the light half is made of.
PACKAGES: Final = ("msgspec", "anyio", "starlette", "uvicorn", "httpx", "rich")
#: A fresh checkpoint and its optimizer fit in this.
_LITTLE_DISK: Final = 10 * 1024**3
#: Loading torch from a cold disk takes its time.
_PROBE_S: Final = 180.0


class Problem(msgspec.Struct, kw_only=True):
    """Something that is wrong. `command` mends it as it stands; `hint` says in words what to do."""

    kind: str
    message: str
    command: str | None = None
    hint: str | None = None


class Report(msgspec.Struct, kw_only=True):
    """Everything `doctor` found. Sizes are bytes; `disk_free` is None where there is no such disk."""

    lorakeet: str
    python: str
    platform: str
    packages: dict[str, str]
    home: str
    disk_free: int | None
    kernel_command: list[str] | None = None
    kernel_version: str | None = None
    devices: list[Device] = []
    engines: dict[str, str] = {}
    probes: list[EngineProbe] = []
    problems: list[Problem] = []


def add(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Look at everything, try everything, say everything."""
    report = _host(arguments.home)
    try:
        report.kernel_command = kernel_command(load(arguments.home))
        await _ask_kernel(report, report.kernel_command)
    except LorakeetError as error:
        report.problems.append(_of_error(error))
    output.event("report", **msgspec.to_builtins(report))
    for line in _lines(report):
        output.say(line)
    return Exit.PROBLEMS if report.problems else Exit.DONE


def _host(home: Path) -> Report:
    free = _free(home)
    return Report(
        lorakeet=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        home=to_wire(str(home)),
        disk_free=free,
        problems=list(_disk_problems(to_wire(str(home)), free)),
    )


def _disk_problems(home: str, free: int | None) -> Iterator[Problem]:
    elsewhere = "Choose another data directory: `--data DIR` with any command, or LORAKEET_HOME."
    if free is None:
        yield Problem(kind="file_missing", message=f"There is no disk where {home} lies.", hint=elsewhere)
    elif not _is_ours(home):
        yield Problem(kind="file_unwritable", message=f"{home} cannot be written.", hint=elsewhere)
    elif free < _LITTLE_DISK:
        message = f"Only {_size(free)} are free where {home} lies."
        yield Problem(kind="disk_full", message=message, hint=f"Free some of it. {elsewhere}")


def _is_ours(home: str) -> bool:
    """Whether files can be made there: in the folder itself, or in the nearest that exists."""
    path = Path(from_wire(home))
    nearest = next((each for each in (path, *path.parents) if each.exists()), path)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


async def _ask_kernel(report: Report, command: list[str]) -> None:
    async with connect(command) as kernel:
        report.kernel_version = kernel.info.kernel.version
        found: ProbeResult = await kernel.call("probe", timeout_s=_PROBE_S)
    report.devices, report.engines = found.state.devices, found.state.engines
    report.probes = found.engines
    report.problems += [*map(_of_kernel, found.state.problems), *_not_working(found)]


def _of_error(error: LorakeetError) -> Problem:
    """With the kernel's last words, where it had any: they say more than that it died."""
    words = str(error.details.get("stderr_tail") or "").strip().splitlines()
    last = f" Its last words: {words[-1]}" if words else ""
    return Problem(kind=error.kind, message=error.message + last, hint=error.hint)


def _of_kernel(problem: KernelProblem) -> Problem:
    return Problem(kind=problem.kind, message=problem.message, command=problem.command)


def _not_working(found: ProbeResult) -> Iterator[Problem]:
    has_gpu = any(device.kind == "cuda" for device in found.state.devices)
    said = {problem.message for problem in found.state.problems}
    for engine in found.engines:
        if not engine.loads:
            # What keeps an engine from loading may have been found already, with what mends it.
            if engine.message not in said:
                yield _broken(engine, found.state)
        elif has_gpu and engine.providers in (["cpu"], ["CPUExecutionProvider"]):
            yield _on_cpu(engine, found.state)


def _broken(engine: EngineProbe, state: KernelState) -> Problem:
    """The whole kernel anew; it brings the onnxruntime that is right for this platform."""
    removal = _removal(name for name in state.engines if _RUNTIME.match(name))
    return Problem(
        kind="load_failed",
        message=f"{engine.name}: {engine.message}",
        command=removal + INSTALL.replace("install", "install --force-reinstall", 1),
        hint=_IN_THE_CLONE,
    )


def _on_cpu(engine: EngineProbe, state: KernelState) -> Problem:
    problem = Problem(
        kind="device_lost", message=f"There is an NVIDIA GPU, but {engine.name} runs on the CPU."
    )
    # A newer kernel may have an engine for which no command is known here.
    if engine.name == "onnxruntime":
        problem.command = _gpu_runtime(state.engines)
    elif engine.name == "torch":
        problem.command, problem.hint = "python3 start.py doctor", _IN_THE_CLONE
    return problem


def _gpu_runtime(installed: Iterable[str]) -> str:
    """The GPU's onnxruntime in the place of any other."""
    removal = _removal(name for name in installed if _RUNTIME.match(name) and name != _GPU_RUNTIME)
    again = "--force-reinstall " if removal else ""
    return f'{removal}pip install {again}"{_GPU_RUNTIME}[cuda,cudnn]"'


def _removal(names: Iterable[str]) -> str:
    """First of all: two onnxruntimes would overwrite each other's files."""
    listed = " ".join(names)
    return f"pip uninstall -y {listed} && " if listed else ""


_IN_THE_CLONE: Final = "Run it in the clone of Lorakeet."
_GPU_RUNTIME: Final = "onnxruntime-gpu"
_RUNTIME: Final = re.compile(r"(ort-nightly|onnxruntime)(?!-extensions)")


def _lines(report: Report) -> Iterator[str]:
    yield f"Lorakeet {report.lorakeet}, Python {report.python}, {report.platform}"
    yield "Packages: " + ", ".join(f"{name} {version}" for name, version in report.packages.items())
    yield f"Data: {report.home}, " + (
        "no disk" if report.disk_free is None else f"{_size(report.disk_free)} free"
    )
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
        if problem.hint:
            yield f"  {problem.hint}"


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


def _free(home: Path) -> int | None:
    """Bytes free where `home` is, or will be; None on a drive that does not exist."""
    for folder in (home, *home.parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None
