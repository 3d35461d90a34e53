"""The reader of GPUs, with a driver that this test plays: there need not be a GPU here."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.machine.gpus import Gpu, Gpus, find_nvml


class Lost(Exception):
    """What a driver raises."""


class Driver:
    """Has the functions of `pynvml` that are used. `broken` names those that fail, by function or GPU."""

    NVMLError = Lost
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *names: str | bytes) -> None:
        self.names = names
        self.broken: set[str | int] = set()
        self.opened = 0

    def _checked(self, *what: str | int) -> None:
        if self.broken.intersection(what):
            raise Lost

    def nvmlInit(self) -> None:
        self._checked("init")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._checked("shutdown")
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._checked("count")
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._checked(index)
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return self.names[handle]

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._checked("memory")
        return SimpleNamespace(total=24 << 30, used=3 << 30, free=21 << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        self._checked("load")
        return SimpleNamespace(gpu=97, memory=12)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._checked("temperature")
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._checked("power")
        return 251_300


def test_a_gpu_is_described_in_bytes_degrees_percent_and_watts() -> None:
    assert Gpus(Driver("RTX")).read() == [
        Gpu(
            id="cuda:0",
            uuid="GPU-0",
            name="RTX",
            memory_total_bytes=24 << 30,
            memory_used_bytes=3 << 30,
            temperature_c=61,
            load_percent=97,
            power_w=251.3,
        )
    ]


def test_a_name_may_come_as_bytes() -> None:
    assert [each.name for each in Gpus(Driver(b"A", "B")).read()] == ["A", "B"]


@pytest.mark.parametrize(
    ("meter", "field"),
    [
        ("memory", "memory_total_bytes"),
        ("load", "load_percent"),
        ("temperature", "temperature_c"),
        ("power", "power_w"),
    ],
)
def test_what_a_gpu_does_not_measure_is_null_and_the_rest_is_said(meter: str, field: str) -> None:
    driver = Driver("RTX")
    driver.broken = {meter}
    (gpu,) = Gpus(driver).read()
    assert getattr(gpu, field) is None
    assert gpu.name == "RTX" and None in (
        gpu.power_w,
        gpu.temperature_c,
        gpu.load_percent,
        gpu.memory_used_bytes,
    )


def test_a_gpu_that_is_lost_does_not_take_the_others_or_their_numbers_with_it() -> None:
    driver = Driver("A", "B", "C")
    driver.broken = {1}
    assert [each.id for each in Gpus(driver).read()] == ["cuda:0", "cuda:2"]


def test_a_driver_that_goes_and_comes_back_is_followed() -> None:
    gpus = Gpus(driver := Driver("RTX"))
    assert len(gpus.read()) == len(gpus.read()) == driver.opened == 1
    driver.broken = {"count", "init", "shutdown"}
    assert gpus.read() == gpus.read() == []
    driver.broken = set()
    assert len(gpus.read()) == 1
    gpus.close()
    gpus.close()
    assert driver.opened == 1, "one was opened when the first was gone without a farewell"
    assert len(gpus.read()) == 1


def test_without_a_driver_or_its_library_there_are_no_gpus() -> None:
    driver = Driver("RTX")
    driver.broken = {"init"}
    assert Gpus(driver).read() == Gpus(None).read() == []
    Gpus(None).close()


def test_the_real_library_answers_here_with_or_without_a_driver() -> None:
    gpus = Gpus(find_nvml())
    assert [each.id for each in gpus.read()] == [f"cuda:{index}" for index in range(len(gpus.read()))]
    gpus.close()
