"""What is installed, on what it can run, what is wrong, and the command that mends it."""

import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import anyio
import msgspec

from contract.errors import LorakeetError
from contract.methods.control import EngineProbe, ProbeResult
from contract.notifications import Device, KernelProblem, KernelState
from contract.rules.paths import from_wire, to_wire
from orchestrator import __version__
from orchestrator.hosting.client import connect
from orchestrator.hosting.kernels import INSTALL, kernel_command
from orchestrator.machine.system import free_bytes
from orchestrator.settings import load

#: What the light half is made of.
PACKAGES: Final = (
    "msgspec",
    "anyio",
    "starlette",
    "uvicorn",
    "httpx",
    "rich",
    "psutil",
    "tomlkit",
    "python-multipart",
    "nvidia-ml-py",
    "keyring",
)
#: Seconds for which what was found is true enough.
GOOD_FOR_S: Final = 60.0
#: A fresh checkpoint and its optimizer fit in this.
_LITTLE_DISK: Final = 10 * 1024**3
#: Loading torch from a cold disk takes its time.
_PROBE_S: Final = 180.0
_IN_THE_CLONE: Final = "Run it in the clone of Lorakeet."
_GPU_RUNTIME: Final = "onnxruntime-gpu"
_RUNTIME: Final = re.compile(r"(ort-nightly|onnxruntime)(?!-extensions)")


class Finding(msgspec.Struct, kw_only=True):
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
    problems: list[Finding] = []


class Doctor:
    """Examines one data directory, and remembers for a while: every time a kernel loads all its libraries."""

    def __init__(self, home: Path) -> None:
        self._home: Final = home
        self._busy: Final = anyio.Lock()
        self._report: Report | None = None
        self._until = 0.0

    async def report(self) -> Report:
        """What was found within the last GOOD_FOR_S seconds."""
        async with self._busy:
            if self._report is None or time.monotonic() >= self._until:
                self._report = await examine(self._home)
                self._until = time.monotonic() + GOOD_FOR_S
            return self._report


async def examine(home: Path) -> Report:
    """Look at everything and try everything, with a kernel of its own; what cannot be done is a problem."""
    report = _host(home)
    try:
        report.kernel_command = kernel_command(load(home))
        await _ask_kernel(report, report.kernel_command)
    except LorakeetError as error:
        report.problems.append(_of_error(error))
    return report


def size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1024**3:.1f} GiB"


def _host(home: Path) -> Report:
    free = free_bytes(home)
    return Report(
        lorakeet=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        home=to_wire(str(home)),
        disk_free=free,
        problems=list(_disk_problems(to_wire(str(home)), free)),
    )


def _disk_problems(home: str, free: int | None) -> Iterator[Finding]:
    elsewhere = "Choose another data directory: `--data DIR` with any command, or LORAKEET_HOME."
    if free is None:
        yield Finding(kind="file_missing", message=f"There is no disk where {home} lies.", hint=elsewhere)
    elif not _is_ours(home):
        yield Finding(kind="file_unwritable", message=f"{home} cannot be written.", hint=elsewhere)
    elif free < _LITTLE_DISK:
        message = f"Only {size(free)} are free where {home} lies."
        yield Finding(kind="disk_full", message=message, hint=f"Free some of it. {elsewhere}")


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


def _of_error(error: LorakeetError) -> Finding:
    """With the kernel's last words, where it had any: they say more than that it died."""
    words = str(error.details.get("stderr_tail") or "").strip().splitlines()
    last = f" Its last words: {words[-1]}" if words else ""
    return Finding(kind=error.kind, message=error.message + last, hint=error.hint)


def _of_kernel(problem: KernelProblem) -> Finding:
    return Finding(kind=problem.kind, message=problem.message, command=problem.command)


def _not_working(found: ProbeResult) -> Iterator[Finding]:
    has_gpu = any(device.kind == "cuda" for device in found.state.devices)
    said = {problem.message for problem in found.state.problems}
    for engine in found.engines:
        if not engine.loads:
            # What keeps an engine from loading may have been found already, with what mends it.
            if engine.message not in said:
                yield _broken(engine, found.state)
        elif has_gpu and engine.providers in (["cpu"], ["CPUExecutionProvider"]):
            yield _on_cpu(engine, found.state)


def _broken(engine: EngineProbe, state: KernelState) -> Finding:
    """The whole kernel anew; it brings the onnxruntime that is right for this platform."""
    removal = _removal(name for name in state.engines if _RUNTIME.match(name))
    return Finding(
        kind="load_failed",
        message=f"{engine.name}: {engine.message}",
        command=removal + INSTALL.replace("install", "install --force-reinstall", 1),
        hint=_IN_THE_CLONE,
    )


def _on_cpu(engine: EngineProbe, state: KernelState) -> Finding:
    problem = Finding(
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


def _version(name: str) -> str | None:
    # Rarely needed, and slow to load.
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
