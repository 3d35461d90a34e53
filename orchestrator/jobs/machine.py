"""What lanes a machine has, and how the kernels of each are started."""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import msgspec

from contract.handshake import LimitsWanted
from orchestrator.hosting import process
from orchestrator.hosting.client import KernelClient, StartSink, connect
from orchestrator.hosting.kernels import kernel_command
from orchestrator.jobs.chooser import CPU_RUN, LaneSpec
from orchestrator.jobs.keeper import Open
from orchestrator.settings import CPU, Settings

if TYPE_CHECKING:
    from orchestrator.machine.system import DeviceState
    from orchestrator.studio import Studio

#: The lane of the studio's own processes.
STUDIO: Final = "studio"
#: What hides every GPU from CUDA.
NO_GPU: Final = {"CUDA_VISIBLE_DEVICES": "-1"}
#: What the studio was told by its environment, and a kernel need not know.
_SECRETS: Final = ("LORAKEET_TOKEN",)


def specs_of(devices: Iterable[LaneSpec], settings: Settings) -> list[LaneSpec]:
    """The lanes of a machine with these devices, as the settings have them; the last two are always there."""
    runs = [chosen(spec, settings) for spec in devices]
    return [
        *(runs or [LaneSpec(id=CPU_RUN, kind="device", env=NO_GPU)]),
        LaneSpec(id=CPU, kind="cpu", env=NO_GPU),
        LaneSpec(id=STUDIO, kind="studio", slots=settings.limits.workers),
    ]


def chosen(spec: LaneSpec, settings: Settings) -> LaneSpec:
    """A lane as the settings have it."""
    if spec.id == STUDIO:
        return msgspec.structs.replace(spec, slots=settings.limits.workers)
    said = next((each for each in settings.devices if each.id == spec.id), None)
    if said is None or not spec.is_gpu:
        return spec
    return msgspec.structs.replace(spec, weight=said.weight, enabled=said.enabled)


def gpu_lanes(devices: "Iterable[DeviceState]") -> list[LaneSpec]:
    """A lane for every GPU; its kernel sees no other one."""
    return [
        LaneSpec(
            id=device.id,
            kind="device",
            # CUDA counts the fastest GPU first unless it is told otherwise.
            env={
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                "CUDA_VISIBLE_DEVICES": device.uuid or device.id.partition(":")[2],
            },
        )
        for device in devices
        if device.id != CPU
    ]


def kernel_opener(studio: "Studio", env: dict[str, str], on_stderr: Callable[[bytes], None]) -> Open:
    """Opens kernels of a lane, each with the settings and keys of its moment."""

    @asynccontextmanager
    async def open_kernel(on_start: StartSink) -> AsyncIterator[KernelClient]:
        settings = studio.settings.current
        command = kernel_command(settings)
        keys = await anyio.to_thread.run_sync(studio.keys.all)

        async def started(pid: int) -> None:
            process.step_back(pid)
            await on_start(pid)

        async with connect(
            command,
            limits=LimitsWanted(max_image_pixels=settings.limits.max_image_pixels),
            env={name: text for name, text in os.environ.items() if name not in _SECRETS} | env,
            on_stderr=on_stderr,
            keys=keys,
            on_start=started,
        ) as kernel:
            yield kernel

    return open_kernel
