"""Which processes belong to which boot, so that the next one ends those that outlived their studio.

A number alone is no name: the system gives it to another process later. What was ended has the same number
and the same moment of its start.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

from orchestrator.store.database import Database

#: Seconds that a killed process may take to be gone; one that waits for a broken disk never goes.
GONE_S: Final = 3.0
_LOOK_S: Final = 0.01


class Known(NamedTuple):
    """A process: its number, when it started, in a measure of its system's own, and since which start of the
    machine that is counted."""

    pid: int
    created: float
    machine: str


def look(pid: int) -> Known | None:
    """The process of that number, if it runs."""
    created = _started(pid)
    return None if created is None else Known(pid, created, _machine())


async def record(control: Database, process: Known, boot_id: str, role: str) -> None:
    """Write down a process of this boot. Raises DiskFull and StoreDamaged."""
    row = (*process, boot_id, role)
    await control.write(lambda db: db.execute(_INSERT, row) and None)


async def forget(control: Database, process: Known) -> None:
    """It has ended. Raises DiskFull and StoreDamaged."""
    await control.write(lambda db: _forget(db, [process]))


async def end_outlived(control: Database, boot_id: str) -> list[Known]:
    """End what was started by other boots and still runs; those that were running.

    Takes GONE_S at most. Raises DiskFull and StoreDamaged.
    """
    recorded = await control.read(lambda db: _of_others(db, boot_id))
    running = await anyio.to_thread.run_sync(lambda: [each for each in recorded if look(each.pid) == each])
    for each in running:
        _kill(each.pid)
    with anyio.move_on_after(GONE_S):
        for each in running:
            while look(each.pid) == each:  # noqa: ASYNC110  nobody tells of the end of a stranger
                await anyio.sleep(_LOOK_S)
    await control.write(lambda db: _forget(db, recorded))
    return running


_INSERT: Final = (
    "INSERT OR REPLACE INTO processes (pid, created, machine, boot_id, role) VALUES (?, ?, ?, ?, ?)"
)


def _of_others(db: sqlite3.Connection, boot_id: str) -> list[Known]:
    rows = db.execute("SELECT pid, created, machine FROM processes WHERE boot_id <> ?", (boot_id,))
    return [Known(*row) for row in rows]


def _forget(db: sqlite3.Connection, ended: Iterable[Known]) -> None:
    db.executemany("DELETE FROM processes WHERE pid = ? AND created = ? AND machine = ?", ended)


def _kill(pid: int) -> None:
    if sys.platform == "win32":
        _kill_tree(pid)
        return
    with suppress(ProcessLookupError, PermissionError):
        # Ours lead groups of their own; anything else must not be asked for more than itself.
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def _kill_tree(pid: int) -> None:
    import psutil

    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for each in [*parent.children(recursive=True), parent]:
            with suppress(psutil.Error):
                each.kill()


def _started(pid: int) -> float | None:
    """When a process started; None where it has ended. Of a zombie only the number is left."""
    if sys.platform == "linux":
        return _ticks(pid)
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _machine() -> str:
    """Names the start of the machine from which ticks are counted; elsewhere times are of the clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _ticks(pid: int) -> float | None:
    """Ticks from the boot of the machine to the start of the process: no change of the clock moves them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name of the program stands in brackets, and may have brackets and blanks itself (proc(5)).
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else float(fields[18])
