"""When the kernel leaves, and that it really does.

It leaves when asked, when stdin ends, when its parent is gone, or on SIGTERM and SIGINT. Leaving is orderly
(jobs are canceled and answer), and bounded by a deadline that needs neither the GIL nor our goodwill.
"""

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from kernel.noise import unblockable

#: Seconds that running jobs get to end once the kernel leaves.
GRACE_S: Final = 10.0
#: Seconds between two looks at the parent.
WATCH_S: Final = 1.0

_STDERR: Final = 2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

EXIT_ASKED: Final = 0
EXIT_BUG: Final = 1
EXIT_PARENT_GONE: Final = 3
EXIT_HANDSHAKE: Final = 4


class Lifetime:
    """One decision to leave: the first reason wins, later ones change nothing."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.started = time.monotonic()
        self.grace_s = grace_s
        self.exit_code = EXIT_ASKED
        self.reason: str | None = None
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._callbacks: list[Callable[[], object]] = []
        self.deadline = float("inf")

    @property
    def leaving(self) -> bool:
        return self._left.is_set()

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started

    def leave(self, reason: str, exit_code: int = EXIT_ASKED) -> None:
        """Begin to leave. Safe from any thread, but not from a signal handler."""
        with self._lock:
            if self.leaving:
                return
            self.reason, self.exit_code = reason, exit_code
            self.deadline = time.monotonic() + self.grace_s
            # It dumps before it exits: onto a full stderr that nobody reads, it would do neither.
            faulthandler.dump_traceback_later(self.grace_s, exit=True, file=unblockable(_STDERR))
            self._left.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def when_leaving(self, callback: Callable[[], object]) -> None:
        """Call back once the kernel leaves; at once if it does already."""
        with self._lock:
            if not self.leaving:
                self._callbacks.append(callback)
                return
        callback()

    def finish(self) -> int:
        """The exit code. Everything that wanted to end in good order has ended."""
        faulthandler.cancel_dump_traceback_later()
        return self.exit_code


class Watch:
    """One thread that waits for signals and looks at the parent every second.

    It starts before anything heavy is imported. End of stdin alone is not enough: a sibling that inherited
    the pipe keeps it open after the host has died.
    """

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        self._parent = os.getppid()
        self._others: list[int] = []
        self._signaled: int | None = None
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        # Before the handlers, or a signal that comes in between would wake nobody.
        if sys.platform != "win32":
            signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._remember)
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def also(self, pid: int) -> None:
        """Watch the host too where a launcher stands between it and us; a pid unknown here is ignored."""
        if pid != self._parent and _is_alive(pid):
            self._others.append(pid)

    def _remember(self, number: int, frame: object) -> None:
        # The handler itself may interrupt any lock being held, so it only leaves a note; the wake-up
        # descriptor, written by the C handler, wakes the thread at once where the platform has it.
        self._signaled = number

    def _run(self) -> None:
        while True:
            if number := self._next_signal():
                if self._lifetime.leaving:
                    os._exit(128 + number)
                self._lifetime.leave(f"{signal.Signals(number).name} received")
            if self._parent_is_gone():
                self._lifetime.leave("the parent is gone", EXIT_PARENT_GONE)

    def _parent_is_gone(self) -> bool:
        # Windows keeps the parent's pid after its death, so there the pid itself is asked.
        here = os.getppid() == self._parent and (sys.platform != "win32" or _is_alive(self._parent))
        return not here or not all(map(_is_alive, self._others))

    def _next_signal(self) -> int | None:
        if sys.platform == "win32":
            time.sleep(WATCH_S)
            number, self._signaled = self._signaled, None
            return number
        ready, _, _ = select.select([self._wake], [], [], WATCH_S)
        number = os.read(self._wake, 1)[0] if ready else None
        # The descriptor wakes for every signal that anybody handles in Python.
        return number if number in _SIGNALS else None


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether the process is dead and its exit code not yet fetched. Known on Linux only; elsewhere False."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field, a name in brackets, may hold anything; the state follows it.
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return False


def _is_alive_on_windows(pid: int) -> bool:
    import ctypes

    synchronize, still_waiting, access_denied = 0x0010_0000, 0x0000_0102, 5
    # A handle is as wide as a pointer, an int of ctypes is not; and ctypes.windll, shared by everybody,
    # keeps neither our types nor the last error.
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    handle_type, word, flag = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
    kernel32.OpenProcess.argtypes, kernel32.OpenProcess.restype = (word, flag, word), handle_type
    kernel32.WaitForSingleObject.argtypes, kernel32.WaitForSingleObject.restype = (handle_type, word), word
    kernel32.CloseHandle.argtypes, kernel32.CloseHandle.restype = (handle_type,), flag
    handle = kernel32.OpenProcess(synchronize, False, pid)
    if not handle:
        # A process that may not be opened is there.
        last_error: int = ctypes.get_last_error()  # type: ignore[attr-defined,unused-ignore]
        return last_error == access_denied
    try:
        return bool(kernel32.WaitForSingleObject(handle, 0) == still_waiting)
    finally:
        kernel32.CloseHandle(handle)
