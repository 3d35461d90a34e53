"""NVIDIA GPUs as NVML sees them: without CUDA, without a kernel, and without minding when the driver goes.

`cuda:N` is the Nth GPU in the order of the bus, as in kernels. CUDA itself counts like this only under
`CUDA_DEVICE_ORDER=PCI_BUS_ID`; `uuid` names a GPU whatever the order.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from contract.base import Reply

_MILLI: Final = 1000


class Gpu(Reply, kw_only=True):
    """A GPU now. What its driver does not say is null."""

    id: str
    uuid: str | None
    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    temperature_c: int | None
    load_percent: int | None
    power_w: float | None


class Gpus:
    """The GPUs of this machine. `nvml` is the module `pynvml` or one like it; None where it is not installed.

    A driver that is gone, or not there yet, is looked for again at every call.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml: Final = nvml
        self._is_open = False

    def read(self) -> list[Gpu]:
        """Every GPU that answers, in the order of the bus."""
        if self._nvml is None:
            return []
        try:
            if not self._is_open:
                self._nvml.nvmlInit()
                self._is_open = True
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError:
            self.close()
            return []
        return list(self._gpus(count))

    def close(self) -> None:
        """Let go of the driver; `read` takes hold of it again."""
        if self._is_open:
            self._is_open = False
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _gpus(self, count: int) -> Iterator[Gpu]:
        for index in range(count):
            # One that has fallen off the bus does not take the others with it.
            with suppress(self._nvml.NVMLError):
                yield self._gpu(index, self._nvml.nvmlDeviceGetHandleByIndex(index))

    def _gpu(self, index: int, handle: Any) -> Gpu:
        nvml = self._nvml
        memory = self._said(nvml.nvmlDeviceGetMemoryInfo, handle)
        load = self._said(nvml.nvmlDeviceGetUtilizationRates, handle)
        power = self._said(nvml.nvmlDeviceGetPowerUsage, handle)
        return Gpu(
            id=f"cuda:{index}",
            uuid=_text(self._said(nvml.nvmlDeviceGetUUID, handle)),
            name=_text(nvml.nvmlDeviceGetName(handle)) or "",
            memory_total_bytes=None if memory is None else int(memory.total),
            memory_used_bytes=None if memory is None else int(memory.used),
            temperature_c=self._said(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            load_percent=None if load is None else int(load.gpu),
            power_w=None if power is None else power / _MILLI,
        )

    def _said(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        """What the driver answers; None to what this GPU does not have, such as a meter of power."""
        try:
            return ask(*arguments)
        except self._nvml.NVMLError:
            return None


def find_nvml() -> Any:
    """The module `pynvml`; None where it is not installed."""
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _text(said: str | bytes | None) -> str | None:
    # Text since nvidia-ml-py 11.5, bytes before.
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
