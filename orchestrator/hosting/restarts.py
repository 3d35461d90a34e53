"""When a kernel that died is started again, and whether it died for want of memory."""

from collections import deque
from pathlib import Path
from typing import Final

from contract.errors import KernelDied

#: More deaths than this within the window mean that something is wrong that a restart does not mend.
MAX_DEATHS: Final = 5
WINDOW_S: Final = 180.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0


class RestartPolicy:
    """When to start again after a death. Pure: times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start, twice as long after each death; None to give up."""
        recent = [death for death in self._deaths if now - death < WINDOW_S]
        if len(recent) == MAX_DEATHS:
            return None
        self._deaths.append(now)
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** len(recent)))


def oom_kills() -> int:
    """How often Linux has killed for want of memory, here or in our own group; 0 where it does not say."""
    return _count("/proc/vmstat") + _count("/sys/fs/cgroup/memory.events")


def was_memory(death: KernelDied, kills_before: int) -> bool:
    """Whether a kernel died because memory ran out; `kills_before` is what `oom_kills` said before."""
    return death.details.get("signal") == "SIGKILL" and oom_kills() > kills_before


def _count(path: str) -> int:
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
