"""How many cores this process may use: by affinity, and by the quota of its control group."""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath


def cores(root: str = "/") -> int:
    """Cores that a pool of threads can keep busy; at least 1. `root` holds `proc` and `sys`."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *(ceil(quota) for quota in _quotas(Path(root)))]))


def _quotas(root: Path) -> Iterator[float]:
    """Every limit in cores on this process's control group or one above it (Linux; none elsewhere).

    A container's group may not be where its path says: then the top of the mount is the container's own.
    """
    for controllers, path in _groups(root):
        mount = root / "sys/fs/cgroup"
        if "cpu" in controllers:
            mount /= "cpu"
        for group in (path, *PurePosixPath(path).parents):
            with suppress(OSError, ValueError, ZeroDivisionError):
                yield _quota(mount / str(group).lstrip("/"), is_v1="cpu" in controllers)


def _groups(root: Path) -> Iterator[tuple[list[str], str]]:
    """The groups that may limit our time, as (controllers, path): version 2 names no controllers."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            controllers = names.split(",") if names else []
            if not controllers or "cpu" in controllers:
                yield controllers, path


def _quota(folder: Path, *, is_v1: bool) -> float:
    """Cores. Raises OSError and ValueError where there is no limit."""
    if is_v1:
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text("ascii")) for name in ("quota", "period")
        )
    else:
        quota, period = map(int, (folder / "cpu.max").read_text("ascii").split())
    if quota <= 0:
        raise ValueError("no limit")
    return quota / period
