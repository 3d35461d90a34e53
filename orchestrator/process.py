"""Starting a process so that it can be ended with everything it started.

POSIX: a session of its own, and signals to the whole group. Windows: a Job Object that kills what is in it
when its last handle closes, which also happens when we die.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
from anyio.abc import Process

from contract.errors import KernelUnavailable

#: Seconds between two looks whether a process has ended. `Process.wait` is not used for that: it may also
#: wait for pipes that a grandchild has inherited.
_LOOK_S: Final = 0.02


async def spawn(command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
    """Start `command` with all three pipes. Raises KernelUnavailable if there is no such program."""
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    try:
        process = await anyio.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=None if env is None else dict(env),
            creationflags=flags,
        )
    except OSError as error:
        raise KernelUnavailable(
            f"The kernel cannot be started: `{command[0]}`: {os.strerror(error.errno or 0)}.",
            where=command[0],
            hint="Set LORAKEET_KERNEL, or `kernel.command` in settings.toml, to the command of a kernel.",
        ) from None
    if sys.platform == "win32":
        _confine(process)
    return process


async def ended(process: Process, timeout_s: float) -> bool:
    """Wait until `process` has ended, for at most `timeout_s`; whether it has."""
    with anyio.move_on_after(timeout_s):
        while process.returncode is None:  # noqa: ASYNC110  nothing else tells without waiting for the pipes
            await anyio.sleep(_LOOK_S)
    return process.returncode is not None


def terminate(process: Process) -> None:
    """Ask the process and all it started to end."""
    _signal(process, signal.SIGTERM)


def kill(process: Process) -> None:
    """End the process and all it started."""
    _signal(process, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            # The group outlives its leader: what the leader started is reached also after its end.
            os.killpg(process.pid, number)


def _confine(process: Process) -> None:
    """Put a Windows process into a Job Object that ends with us."""
    import ctypes
    from ctypes import wintypes

    kill_on_close, extended_limits, all_access = 0x2000, 9, 0x1F0FFF

    class Limits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; only the flags matter here."""

        _fields_ = (
            ("times", ctypes.c_int64 * 2),
            ("flags", wintypes.DWORD),
            ("sizes", ctypes.c_size_t * 2),
            ("active", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("classes", wintypes.DWORD * 2),
            ("io", ctypes.c_uint64 * 6),
            ("memory", ctypes.c_size_t * 4),
        )

    kernel32: Any = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel32.CreateJobObjectW.restype = kernel32.OpenProcess.restype = wintypes.HANDLE
    job = wintypes.HANDLE(kernel32.CreateJobObjectW(None, None))
    limits = Limits(flags=kill_on_close)
    kernel32.SetInformationJobObject(job, extended_limits, ctypes.byref(limits), ctypes.sizeof(limits))
    handle = wintypes.HANDLE(kernel32.OpenProcess(all_access, False, process.pid))
    kernel32.AssignProcessToJobObject(job, handle)
    kernel32.CloseHandle(handle)
