"""What a worker does to itself before it touches anybody's file: limits, and an end with its parent's end.

Windows confines from outside, by the Job Object of `orchestrator.hosting.windows`; memory is limited on Linux
only, as other systems do not keep to RLIMIT_AS.
"""

import os
import signal
import sys
from typing import Final

from orchestrator.workers.tasks import Confined, Confinement

#: Added to the niceness: what a person waits for, and a training run, come first.
NICENESS: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_BELOW_NORMAL_PRIORITY: Final = 0x4000


def end_with_parent() -> None:
    """Let Linux kill this process when its parent has died, in the middle of whatever it does.

    Elsewhere, and for a parent that has died already, the end of stdin says so.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def confine(arguments: Confinement) -> Confined:
    """The first task of every worker."""
    if sys.platform == "win32":
        _lower_priority()
        return Confined(memory_is_limited=False)
    import resource

    os.nice(NICENESS)
    # A core holds what was decoded, and takes seconds to write.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return Confined(memory_is_limited=_limit_memory(arguments.memory_bytes))


def _limit_memory(more_bytes: int) -> bool:
    """Whether it could be done. The limit is one of address space, most of which libraries only reserve:
    what there is already does not count."""
    if sys.platform != "linux":
        return False
    import resource

    with open("/proc/self/statm", "rb") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = taken + more_bytes if hard == resource.RLIM_INFINITY else min(hard, taken + more_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return True


def _lower_priority() -> None:
    if sys.platform == "win32":
        import ctypes

        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.SetPriorityClass.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        # −1 stands for this process.
        kernel32.SetPriorityClass(ctypes.c_void_p(-1), _BELOW_NORMAL_PRIORITY)
