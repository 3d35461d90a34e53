"""The machine as the studio sees it: processor, memory, disks and devices, now."""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple

from contract.base import Reply
from contract.rules.paths import to_wire
from orchestrator.clock import now_ms, rfc3339
from orchestrator.machine.gpus import Gpu, Gpus, find_nvml
from orchestrator.settings import CPU, Settings

#: Seconds over which the first load is measured.
_FIRST_LOOK_S: Final = 0.05


class Cpu(Reply, kw_only=True):
    """The processor. `cores` are those that the studio may use; `load_percent` is of all cores together."""

    name: str
    cores: int
    load_percent: float


class Memory(Reply, kw_only=True):
    """Memory of the machine, or of the container in which the studio runs if that has less."""

    total_bytes: int
    available_bytes: int


class Disk(Reply, kw_only=True):
    """The disk below a folder; sizes are null where there is none now, such as an unplugged one."""

    id: str
    kind: Literal["data", "root", "models"]
    path: str
    total_bytes: int | None
    free_bytes: int | None


class DeviceState(Reply, kw_only=True):
    """A place where jobs can run, now. What is not known is null."""

    id: str
    kind: Literal["cpu", "cuda"]
    name: str
    uuid: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    temperature_c: int | None = None
    load_percent: float | None = None
    power_w: float | None = None


class SystemState(Reply, kw_only=True):
    """The machine at one moment. `devices` are the GPUs and, last, the CPU."""

    at: str
    cpu: Cpu
    memory: Memory
    disks: list[Disk]
    devices: list[DeviceState]


class System:
    """Looks at the machine. Every call may wait for a disk or a driver, so none is for the loop."""

    def __init__(self, home: Path, nvml: Any = None) -> None:
        """`nvml` stands in for the module `pynvml`."""
        self._home: Final = home
        self._nvml: Final = nvml
        self._busy: Final = Lock()

    def sample(self, settings: Settings) -> SystemState:
        """The machine now."""
        with self._busy:
            cpu = Cpu(name=self._name, cores=cores(), load_percent=self._load())
            memory = self._memory()
            gpus = self._gpus.read()
        return SystemState(
            at=rfc3339(now_ms()),
            cpu=cpu,
            memory=memory,
            disks=list(disks(self._home, settings)),
            devices=[*map(_device, gpus), _cpu_device(cpu, memory)],
        )

    def devices(self) -> list[DeviceState]:
        """Where jobs can run: the GPUs in the order of the bus, then the CPU, which is always there."""
        with self._busy:
            cpu = Cpu(name=self._name, cores=cores(), load_percent=self._load())
            return [*map(_device, self._gpus.read()), _cpu_device(cpu, self._memory())]

    def gpus(self) -> list[DeviceState]:
        """The GPUs alone: a look at the CPU takes its time, and the studio starts with this one."""
        with self._busy:
            return list(map(_device, self._gpus.read()))

    def close(self) -> None:
        """Let go of the driver."""
        with self._busy:
            self._gpus.close()

    @cached_property
    def _name(self) -> str:
        return cpu_name()

    @cached_property
    def _gpus(self) -> Gpus:
        return Gpus(self._nvml or find_nvml())

    @cached_property
    def _psutil(self) -> ModuleType:
        # Not when the studio starts: it and pynvml take a while to load.
        import psutil

        # The load is counted from one call to the next, so there has to be a first.
        psutil.cpu_percent(interval=_FIRST_LOOK_S)
        return psutil

    def _load(self) -> float:
        return float(self._psutil.cpu_percent())

    def _memory(self) -> Memory:
        found = self._psutil.virtual_memory()
        limit = memory_limit()
        if limit is None or limit.total_bytes >= found.total:
            return Memory(total_bytes=found.total, available_bytes=found.available)
        available = min(found.available, limit.available_bytes)
        return Memory(total_bytes=limit.total_bytes, available_bytes=available)


def disks(home: Path, settings: Settings) -> Iterator[Disk]:
    """The disks of the data directory, of every root and of every model folder."""
    yield _disk("data", "data", str(home))
    yield from (_disk(each.id, "root", each.folder) for each in settings.roots)
    yield from (_disk(each.id, "models", each.folder) for each in settings.model_folders)


def free_bytes(folder: Path) -> int | None:
    """Bytes free where `folder` is, or will be; None on a drive that does not exist."""
    for each in (folder, *folder.parents):
        try:
            return shutil.disk_usage(each).free
        except OSError:
            continue
    return None


def cores() -> int:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count)


def cpu_name(root: Path = Path("/")) -> str:
    """What the processor calls itself; the architecture where it does not say."""
    with suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


class MemoryLimit(NamedTuple):
    """What a container has."""

    total_bytes: int
    available_bytes: int


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The limit of the container in which this process runs (Linux, control groups 2); None without one."""
    group = root / "sys/fs/cgroup"
    try:
        total = int((group / "memory.max").read_text("ascii"))
        used = int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return None
    # Files read long ago count as used, and make room as soon as somebody needs it.
    with suppress(OSError, ValueError):
        lines = (group / "memory.stat").read_text("ascii").splitlines()
        used -= sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return MemoryLimit(total, max(0, total - used))


def _disk(name: str, kind: Literal["data", "root", "models"], folder: str) -> Disk:
    total = free = None
    with suppress(OSError):
        usage = shutil.disk_usage(folder)
        total, free = usage.total, usage.free
    return Disk(id=name, kind=kind, path=to_wire(folder), total_bytes=total, free_bytes=free)


def _device(gpu: Gpu) -> DeviceState:
    return DeviceState(
        id=gpu.id,
        kind="cuda",
        name=gpu.name,
        uuid=gpu.uuid,
        memory_total_bytes=gpu.memory_total_bytes,
        memory_used_bytes=gpu.memory_used_bytes,
        temperature_c=gpu.temperature_c,
        load_percent=gpu.load_percent,
        power_w=gpu.power_w,
    )


def _cpu_device(cpu: Cpu, memory: Memory) -> DeviceState:
    return DeviceState(
        id=CPU,
        kind="cpu",
        name=cpu.name,
        memory_total_bytes=memory.total_bytes,
        memory_used_bytes=memory.total_bytes - memory.available_bytes,
        load_percent=cpu.load_percent,
    )
