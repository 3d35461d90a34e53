"""A worker that also does what no task should: `python odd_worker.py`."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from contract.base import Reply, Strict
from contract.errors import ImageInvalid
from orchestrator.workers import __main__ as worker
from orchestrator.workers.tasks import TASKS, Task

COMMAND: Final = (sys.executable, "-P", __file__)


class Deed(Strict, frozen=True, kw_only=True):
    """What to do, and with what."""

    name: str
    argument: Any = None


class Done(Reply, kw_only=True):
    """What came of it."""

    said: Any = None


def _say(text: str) -> str:
    return text


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
    os.write(1, text.encode())


def _refuse(where: str) -> None:
    raise ImageInvalid("It is no picture.", where=where, hint="Look again.", details={"n": 1})


def _stumble(text: str) -> None:
    raise ValueError(text)


def _begin(fifo: str) -> None:
    """Tell the reader of the FIFO that the task is under way, and never end."""
    Path(fifo).write_text("begun", encoding="ascii")
    threading.Event().wait()


def _finish(fifo: str) -> str:
    """Tell the reader of the FIFO that the task is about to end."""
    Path(fifo).write_text("begun", encoding="ascii")
    return "finished"


def _hoard(count: int) -> int:
    return len(bytearray(count))


def _kill(number: int) -> None:
    os.write(2, b"these are my last words\n")
    os.kill(os.getpid(), number)


def _lie(line: str) -> None:
    """Say `line` where the answer belongs."""
    for fd in range(3, 10):
        try:
            os.write(fd, line.encode() + b"\n")
        except OSError:
            continue
        threading.Event().wait()


def _limit_files(count: int) -> None:
    """No file may be longer from now on."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))


def _state(_: None) -> dict[str, Any]:
    if sys.platform == "win32":
        return {}
    import resource

    return {
        "nice": os.nice(0),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "environment": dict(os.environ),
        "stdin": os.readlink("/proc/self/fd/0") if sys.platform == "linux" else None,
    }


DEEDS: Final[dict[str, Callable[[Any], Any]]] = {
    "say": _say,
    "print": _print,
    "refuse": _refuse,
    "stumble": _stumble,
    "begin": _begin,
    "finish": _finish,
    "hoard": _hoard,
    "kill": _kill,
    "exit": os._exit,
    "lie": _lie,
    "limit files": _limit_files,
    "state": _state,
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
}


def perform(deed: Deed) -> Done:
    return Done(said=DEEDS[deed.name](deed.argument))


DEED: Final = Task("deed", Deed, Done, "__main__:perform")

if __name__ == "__main__":
    TASKS[DEED.name] = DEED
    worker.main()
