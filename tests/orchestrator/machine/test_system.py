import os
from pathlib import Path

import msgspec
import pytest

from orchestrator.machine.system import System, cpu_name, free_bytes, memory_limit
from orchestrator.settings import ModelFolder, Root, Settings
from tests.orchestrator.machine.test_gpus import Driver


def test_the_machine_is_described(tmp_path: Path) -> None:
    state = System(tmp_path, Driver()).sample(Settings())
    assert state.cpu.name and state.cpu.cores >= 1 and 0 <= state.cpu.load_percent <= 100
    assert 0 < state.memory.available_bytes <= state.memory.total_bytes
    assert state.at.endswith("Z")
    (cpu,) = state.devices
    assert (cpu.id, cpu.kind, cpu.name, cpu.uuid) == ("cpu", "cpu", state.cpu.name, None)
    assert cpu.memory_total_bytes == state.memory.total_bytes


def test_devices_are_the_gpus_and_last_the_cpu(tmp_path: Path) -> None:
    system = System(tmp_path, driver := Driver("A", "B"))
    expected = [("cuda:0", "A", "GPU-0"), ("cuda:1", "B", "GPU-1")]
    assert [(each.id, each.name, each.uuid) for each in system.devices()[:-1]] == expected
    assert [(each.id, each.name, each.uuid) for each in system.gpus()] == expected
    state = system.sample(Settings())
    assert [each.id for each in state.devices] == ["cuda:0", "cuda:1", "cpu"]
    gpu = state.devices[0]
    assert (gpu.memory_used_bytes, gpu.temperature_c, gpu.load_percent, gpu.power_w) == (
        3 << 30,
        61,
        97,
        251.3,
    )
    driver.broken = {"count"}
    assert [each.id for each in system.sample(Settings()).devices] == ["cpu"]
    system.close()


def test_every_folder_has_its_disk_and_a_folder_that_is_gone_has_none(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    gone = ModelFolder(path=str(tmp_path / "unplugged"))
    settings = Settings(roots=[Root(id="photos", path=str(tmp_path / "photos"))], model_folders=[gone])
    data, photos, models = System(tmp_path, Driver()).sample(settings).disks
    assert (data.id, data.kind, data.path) == ("data", "data", str(tmp_path))
    assert (photos.id, photos.kind) == ("photos", "root")
    assert photos.total_bytes and photos.free_bytes and photos.total_bytes == data.total_bytes
    assert (models.id, models.kind, models.total_bytes, models.free_bytes) == (gone.id, "models", None, None)


def test_what_is_said_is_json_with_units_in_its_names(tmp_path: Path) -> None:
    said = msgspec.json.decode(msgspec.json.encode(System(tmp_path, Driver("A")).sample(Settings())))
    assert said["devices"][0].keys() == {
        "id",
        "kind",
        "name",
        "uuid",
        "memory_total_bytes",
        "memory_used_bytes",
        "temperature_c",
        "load_percent",
        "power_w",
    }


def test_space_is_known_before_the_folder_is_there(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.05)


@pytest.mark.skipif(os.name == "nt", reason="control groups are of Linux")
def test_a_container_has_what_it_may_use(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("600\n")
    (group / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) is None
    (group / "memory.max").write_text("1000\n")
    assert memory_limit(tmp_path) == (1000, 400)
    (group / "memory.stat").write_text("anon 5\ninactive_file 100\n")
    assert memory_limit(tmp_path) == (1000, 500)


def test_a_processor_that_does_not_say_its_name_is_called_by_its_kind(tmp_path: Path) -> None:
    assert cpu_name(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast 9000\n", encoding="utf-8")
    assert cpu_name(tmp_path) == "Fast 9000"
