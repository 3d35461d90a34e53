"""How much memory a run has needed, by phase; and giving it back."""

import os
from typing import Final

import torch

_STATUS: Final = "/proc/self/status"
_ANONYMOUS: Final = b"RssAnon:"


class Peak:
    """The highest amount of memory in bytes in each phase: the GPU's as it is allocated, without one that of
    the process as it was seen at its looks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.by_phase: dict[str, int] = {}
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def look(self, phase: str) -> int | None:
        """The peak of a phase until now; None where nobody knows."""
        found = self._now()
        if found is not None:
            self.by_phase[phase] = max(found, self.by_phase.get(phase, 0))
        return self.by_phase.get(phase)

    def next(self, phase: str) -> None:
        """Look once more at a phase that ends; what comes is another's."""
        self.look(phase)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _now(self) -> int | None:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return anonymous_bytes()


def give_back() -> None:
    """Let other programs have the memory of the GPU that nothing here needs any more."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def anonymous_bytes() -> int | None:
    """Memory of this process that is no file's, in bytes: Linux tells; elsewhere the peak of all of it."""
    try:
        with open(_STATUS, "rb") as file:
            for line in file:
                if line.startswith(_ANONYMOUS):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    if os.name == "nt":
        return None
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
