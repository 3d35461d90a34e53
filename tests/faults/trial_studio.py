"""A studio that is to be killed: it and all it starts are known by a mark in their environment."""

import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from tests.studio_process import COMMAND, StudioProcess, until

_MARK: Final = "FAULT_TRIAL"
_HERE: Final = Path(__file__).parent
#: A studio that has little patience with kernels.
HURRIED: Final = (sys.executable, "-P", str(_HERE / "hurried.py"))
#: Seconds after which nothing of a killed studio may be left.
GONE_S: Final = 2.0


class Trace:
    """The mark of one trial. `folder` is where kernels note what they do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "kernels"
        self.folder.mkdir()
        self._mark = secrets.token_hex(8)

    def environment(self, kernel: Sequence[str] | None = None) -> dict[str, str]:
        """Of the studio; its kernels are started by the command `kernel`, or are real ones."""
        command = kernel or (sys.executable, "-P", str(_HERE / "watched_kernel.py"), str(self.folder))
        return {_MARK: self._mark, "LORAKEET_KERNEL": " ".join(command)}

    def processes(self) -> dict[int, str]:
        """The command of everything that runs and has the mark, by its number."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def overlaps(self) -> str:
        """Jobs that two kernels did at once."""
        path = self.folder / "overlaps"
        return path.read_text("ascii") if path.exists() else ""

    def begun(self) -> list[list[str]]:
        """Job, attempt and process of all that kernels began."""
        path = self.folder / "begun"
        return [line.split() for line in path.read_text("ascii").splitlines()] if path.exists() else []

    def assert_nothing_left(self, within_s: float = GONE_S) -> None:
        """Nothing with the mark runs any more."""
        try:
            until(lambda: not self.processes(), within_s)
        except TimeoutError:
            raise AssertionError(f"still running: {self.processes()}") from None

    def kill_all(self) -> None:
        """As if the machine had ended, but for its disk."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def scripted(trace: Trace) -> tuple[str, ...]:
    """The command of a kernel without a model, which takes its script from the folder of the trace."""
    return (sys.executable, "-P", str(_HERE / "scripted_kernel.py"), str(trace.folder))


@contextmanager
def traced(folder: Path) -> Iterator[Trace]:
    """A mark; whatever still has it at the end of the block is killed."""
    trace = Trace(folder)
    try:
        yield trace
    finally:
        trace.kill_all()


@contextmanager
def studio_of(
    home: Path,
    trace: Trace,
    *,
    kernel: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[StudioProcess]:
    """A studio with the mark."""
    with StudioProcess(home, env=trace.environment(kernel) | dict(env or {}), command=command) as studio:
        yield studio


def kernels_of(studio: StudioProcess) -> list[int]:
    """The kernels that it has started, found without asking it."""
    try:
        children = psutil.Process(studio.pid).children()
    except psutil.Error:
        return []
    found = []
    for child in children:
        with suppress(psutil.Error):
            if any("kernel" in word for word in child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found
