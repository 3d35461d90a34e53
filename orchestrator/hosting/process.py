"""Starting a process so that it can be ended with everything it started.

POSIX: a session of its own, and signals to the whole group. Windows: a Job Object; see `windows`.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import anyio
from anyio.abc import Process

from contract.errors import KernelUnavailable
from contract.rules.paths import to_wire

if TYPE_CHECKING or sys.platform == "win32":
    from orchestrator.hosting import windows

#: Seconds between two looks whether a process has ended. `Process.wait` is not used for that: it may also
#: wait for pipes that a grandchild has inherited.
_LOOK_S: Final = 0.02

#: Steps on the scale of POSIX; a kernel that has the machine for itself loses nothing by them.
_NICE: Final = 5

#: The job of every process on Windows; it ends with `kill`, or when the process is forgotten.
_jobs: Final[WeakKeyDictionary[Process, "windows.Job"]] = WeakKeyDictionary()


async def spawn(command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
    """Start `command` with all three pipes. Raises KernelUnavailable if there is no such program."""
    try:
        process = await anyio.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=None if env is None else dict(env),
            creationflags=windows.CREATION_FLAGS if sys.platform == "win32" else 0,
        )
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the command.
        raise _unavailable(command[0], error) from None
    if sys.platform == "win32":
        _confine(process, command[0])
    return process


async def ended(process: Process, timeout_s: float) -> bool:
    """Wait until `process` has ended, for at most `timeout_s`; whether it has."""
    with anyio.move_on_after(timeout_s):
        while process.returncode is None:  # noqa: ASYNC110  nothing else tells without waiting for the pipes
            await anyio.sleep(_LOOK_S)
    return process.returncode is not None


def terminate(process: Process) -> None:
    """Ask the process and all it started to end. Windows knows no such asking, and they are killed."""
    if sys.platform == "win32":
        kill(process)
    else:
        _signal(process, signal.SIGTERM)


def kill(process: Process) -> None:
    """End the process and all it started."""
    if sys.platform == "win32":
        if job := _jobs.pop(process, None):
            job.kill()
    else:
        _signal(process, signal.SIGKILL)


def step_back(pid: int) -> None:
    """Let a process that has just started, and all it starts, give way to people.

    Should it crash, no image of its memory is left behind: keys and weights are in it. Where the system
    cannot, nothing is changed.
    """
    import psutil  # no command that starts no kernel needs it

    with contextlib.suppress(psutil.Error, OSError):
        started = psutil.Process(pid)
        if sys.platform == "win32":
            started.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            started.nice(started.nice() + _NICE)
        if sys.platform == "linux":
            started.rlimit(psutil.RLIMIT_CORE, (0, 0))


def _signal(process: Process, number: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The group outlives its leader: what the leader started is reached also after its end.
            os.killpg(process.pid, number)


def _confine(process: Process, program: str) -> None:
    try:
        _jobs[process] = windows.confine(process.pid)
    except OSError as error:
        # It is still suspended, or at least alone.
        process.kill()
        raise _unavailable(program, error) from None


def _unavailable(program: str, error: OSError | ValueError) -> KernelUnavailable:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return KernelUnavailable(
        f"The kernel cannot be started: `{to_wire(program)}`: {why}.",
        where=to_wire(program),
        hint="Set LORAKEET_KERNEL, or `kernel.command` in settings.toml, to the command of a kernel.",
    )
