"""What is installed here and on what it can run, found without importing any of it."""

import os
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final

from contract.notifications import Device, KernelProblem, KernelState
from kernel.cores import cores

#: Distributions a person wants to see the version of.
ENGINES: Final = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "safetensors",
    "diffusers",
    "transformers",
    "prodigyopt",
    "schedulefree",
    "bitsandbytes",
    "huggingface-hub",
    "pillow",
    "numpy",
)
#: To be run in the folder of Lorakeet; it is on no index.
_INSTALL: Final = 'pip install -e ".[kernel]" -c constraints.txt'


def find_state(loaded: list[str]) -> KernelState:
    """The state of this kernel; `degraded` where something needs mending."""
    runtimes = onnx_runtimes()
    found = list(_problems(runtimes))
    return KernelState(
        status="degraded" if found else "ready",
        devices=[*gpus(), _cpu()],
        engines=dict(sorted((_versions(ENGINES) | runtimes).items())),
        loaded=loaded,
        problems=found,
    )


def onnx_runtimes() -> dict[str, str]:
    """Every installed distribution that claims the module `onnxruntime`, with its version.

    Two of them overwrite each other's files, and removing either then breaks the other.
    """
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if re.fullmatch(r"(ort-nightly|onnxruntime)(-.+)?", name) and name != "onnxruntime-extensions":
            found[name] = distribution.version
    return found


def conflict(runtimes: dict[str, str]) -> KernelProblem | None:
    """What is wrong with these onnxruntime distributions, if more than one is there."""
    if len(runtimes) < 2:
        return None
    names = sorted(runtimes)
    keep = next((name for name in names if name.endswith("-gpu")), names[0])
    return KernelProblem(
        kind="dependency_conflict",
        message=f"{' and '.join(names)} are both installed; they overwrite each other's files.",
        command=f"pip uninstall -y {' '.join(names)} && pip install {keep}",
    )


def gpus() -> list[Device]:
    """NVIDIA devices through NVML, without CUDA; none where there is no driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Device(
        id=f"cuda:{index}",
        kind="cuda",
        name=name.decode() if isinstance(name, bytes) else name,
        memory_total=int(memory.total),
        memory_free=int(memory.free),
    )


def _cpu() -> Device:
    memory = {name: _pages(pages) for name, pages in _MEMORY.items()}
    return Device(id="cpu", kind="cpu", name=f"{cores()} cores", **memory)


_MEMORY: Final = {"memory_total": "SC_PHYS_PAGES", "memory_free": "SC_AVPHYS_PAGES"}


def _pages(name: str) -> int | None:
    """Bytes of memory by the name of a POSIX system variable; None where the platform has none such."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)
    except (AttributeError, ValueError, OSError):
        return None


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _problems(runtimes: dict[str, str]) -> Iterator[KernelProblem]:
    if both := conflict(runtimes):
        yield both
    missing = [name for name in ("pillow", "numpy", "huggingface-hub", "torch") if not _versions((name,))]
    missing += [] if runtimes else ["onnxruntime"]
    if missing:
        yield KernelProblem(
            kind="dependency_missing", message=f"Not installed: {', '.join(missing)}.", command=_INSTALL
        )
