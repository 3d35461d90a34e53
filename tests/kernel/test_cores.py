"""A container's share of the processor counts, not the machine's cores."""

import os
from pathlib import Path

import pytest

from kernel.cores import cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores, without control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def test_without_control_groups_all_cores_count(machine: Path) -> None:
    assert cores(str(machine)) == 64


@pytest.mark.parametrize(
    ("quota", "count"),
    [("max 100000", 64), ("350000 100000", 4), ("10000 100000", 1), ("9999999 100000", 64)],
)
def test_the_quota_of_version_2_counts_rounded_up(machine: Path, quota: str, count: int) -> None:
    put(machine / "proc/self/cgroup", "0::/\n")
    put(machine / "sys/fs/cgroup/cpu.max", quota + "\n")
    assert cores(str(machine)) == count


def test_the_smallest_quota_on_the_way_up_counts(machine: Path) -> None:
    put(machine / "proc/self/cgroup", "0::/box/inner\n")
    put(machine / "sys/fs/cgroup/box/inner/cpu.max", "max 100000\n")
    put(machine / "sys/fs/cgroup/box/cpu.max", "200000 100000\n")
    assert cores(str(machine)) == 2


@pytest.mark.parametrize("path", ["/docker/abc", "/"])
def test_the_quota_of_version_1_counts_also_where_the_path_is_the_hosts(machine: Path, path: str) -> None:
    put(machine / "proc/self/cgroup", f"4:memory:{path}\n3:cpu,cpuacct:{path}\n0::/\n")
    put(machine / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n")
    put(machine / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cores(str(machine)) == 2
    put(machine / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert cores(str(machine)) == 64
