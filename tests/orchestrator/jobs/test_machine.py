"""Which lanes a machine has."""

from orchestrator.jobs.chooser import CPU_RUN, LaneSpec
from orchestrator.jobs.machine import STUDIO, gpu_lanes, specs_of
from orchestrator.machine.system import DeviceState
from orchestrator.settings import DeviceSettings, LimitSettings, Settings


def test_without_a_gpu_there_are_two_lanes_for_kernels() -> None:
    runs, light, studio = specs_of([], Settings())
    assert (runs.id, runs.kind, runs.is_gpu) == (CPU_RUN, "device", False)
    assert (light.id, light.kind) == ("cpu", "cpu")
    assert (studio.id, studio.kind, studio.slots) == (STUDIO, "studio", Settings().limits.workers)
    assert runs.env == light.env == {"CUDA_VISIBLE_DEVICES": "-1"}


def test_every_gpu_has_a_lane_and_sees_itself_only() -> None:
    devices = [
        DeviceState(id="cuda:0", kind="cuda", name="One", uuid="GPU-1"),
        DeviceState(id="cuda:1", kind="cuda", name="Two"),
        DeviceState(id="cpu", kind="cpu", name="CPU"),
    ]
    first, second = gpu_lanes(devices)
    assert (first.id, first.env["CUDA_VISIBLE_DEVICES"]) == ("cuda:0", "GPU-1")
    assert (second.id, second.env["CUDA_VISIBLE_DEVICES"]) == ("cuda:1", "1")
    assert first.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert [spec.id for spec in specs_of([first, second], Settings())] == ["cuda:0", "cuda:1", "cpu", STUDIO]


def test_settings_say_what_a_device_gets() -> None:
    settings = Settings(
        devices=[
            DeviceSettings(id="cuda:0", weight=3.0, enabled=False),
            DeviceSettings(id="cpu", weight=5.0),
        ],
        limits=LimitSettings(workers=7),
    )
    gpu, light, studio = specs_of([LaneSpec(id="cuda:0", kind="device")], settings)
    assert (gpu.weight, gpu.enabled) == (3.0, False)
    assert (light.weight, light.enabled) == (1.0, True)
    assert studio.slots == 7
