"""Decides of every change that a confined program makes to a disk: to let it, to refuse it, to kill there.

A full disk can so begin at the first, second, … last write of anything, in any file, and end again; and
nobody needs to be root. See `tests.faults.confined`.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.faults.system_calls import CALLS, IS_KNOWN, Call

#: ioctl(2) of the listener: receive a question, send an answer (linux/seccomp.h).
_RECEIVE: Final = 0xC050_2100
_SEND: Final = 0xC018_2101
_LET_IT: Final = 1
#: struct seccomp_notif: id, pid, flags, then seccomp_data: nr, arch, instruction pointer, six arguments.
_QUESTION: Final = struct.Struct("QIIiIQ6Q")
_ANSWER: Final = struct.Struct("QqiI")
_AT_FDCWD: Final = -100
_LONGEST: Final = 4096
_HERE: Final = Path(__file__).parent


class Change(NamedTuple):
    """What a program is about to do to a file below the folder that is watched."""

    call: Call
    path: str

    def __str__(self) -> str:
        return f"{self.call.name} {os.path.basename(self.path)}"


#: The errno with which a change fails; None lets it.
Decide = Callable[[Change], int | None]


class Supervisor:
    """Watches what is changed below `folder`. `changes` are those since `count` was called.

    Use as a context; start programs with `command(...)`.
    """

    def __init__(self, folder: Path, address: Path) -> None:
        self._folder = os.path.realpath(folder)
        self._address = str(address)
        self._door = socket.socket(socket.AF_UNIX)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._lock = threading.Lock()
        self._decide: Decide = lambda change: None
        self._is_full = False
        self._ended = threading.Event()
        self.changes: list[Change] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def command(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """What starts `command` so that it is watched."""
        return (sys.executable, "-P", str(_HERE / "confined.py"), self._address, *command)

    def decide(self, decide: Decide, *, is_full: bool = False) -> None:
        """From now on. `is_full`: who asks how much is free is told that nothing is."""
        with self._lock:
            self.changes, self._decide, self._is_full = [], decide, is_full

    def let(self) -> None:
        """Let everything."""
        self.decide(lambda change: None)

    def __enter__(self) -> Self:
        self._door.bind(self._address)
        self._door.listen()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Whoever is confined must have ended: nobody answers its questions any more."""
        self._ended.set()
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._door.accept()
            except OSError:
                return
            with connection:
                _, listeners, _, _ = socket.recv_fds(connection, 1, 1)
            threading.Thread(target=self._answer_all, args=(listeners[0],), daemon=True).start()

    def _answer_all(self, listener: int) -> None:
        """Until nobody is left who could ask."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            while not self._ended.is_set():
                for _, events in poll.poll(100):
                    if events & select.POLLIN:
                        self._answer(listener)
                    elif events:
                        return
        finally:
            os.close(listener)

    def _answer(self, listener: int) -> None:
        asked = ctypes.create_string_buffer(_QUESTION.size)
        if self._libc.ioctl(listener, ctypes.c_ulong(_RECEIVE), asked) != 0:
            # It has died meanwhile.
            return
        id, pid, _, number, _, _, *arguments = _QUESTION.unpack(asked.raw[: _QUESTION.size])
        with self._lock:
            result = self._judged(pid, CALLS[number], arguments)
        flags = _LET_IT if result is None else 0
        answer = ctypes.create_string_buffer(_ANSWER.pack(id, 0, -(result or 0), flags))
        self._libc.ioctl(listener, ctypes.c_ulong(_SEND), answer)

    def _judged(self, pid: int, call: Call, arguments: list[int]) -> int | None:
        """None to let it, 0 where it was done in its place, or an errno."""
        try:
            path = self._folder if call.kind == "sync_all" else _path(pid, call, arguments)
        except OSError:
            return None
        if not path.startswith(self._folder + os.sep) and path != self._folder:
            return None
        if call.kind == "space":
            return _say_full(pid, arguments[1], path) if self._is_full else None
        if call.kind == "create" and os.path.lexists(path):
            return None
        change = Change(call, path)
        self.changes.append(change)
        return self._decide(change)


def is_possible() -> str | None:
    """Why it is not; None where it is."""
    if not IS_KNOWN:
        return "only Linux on x86-64 and ARM asks"
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Supervisor(Path(folder), Path(folder) / "door") as trying:
        done = subprocess.run(trying.command(("true",)), capture_output=True, timeout=20, check=False)
    return None if done.returncode == 0 else done.stderr.decode()[-300:]


class FullFrom:
    """The disk is full from the change of this number on (from 1), for ever or for `times` of them."""

    def __init__(self, number: int, times: int | None = None, error: int = errno.ENOSPC) -> None:
        self._number, self._times, self._error = number, times, error
        self.seen = 0
        self.refused: list[Change] = []

    def __str__(self) -> str:
        return f"{errno.errorcode[self._error]} from {self._number} on, {self._times or 'all'} times"

    def __call__(self, change: Change) -> int | None:
        if change.call.kind in ("name", "remove", "sync_all"):
            # These take no space. A `sync` may: some file systems look for it only then.
            return None
        self.seen += 1
        if self.seen < self._number or (self._times is not None and self.seen >= self._number + self._times):
            return None
        self.refused.append(change)
        return self._error


class KillAt:
    """The program dies at the change of this number (from 1), which does not happen any more."""

    def __init__(self, number: int, kill: Callable[[], None]) -> None:
        self._number, self._kill = number, kill
        self.seen = 0
        self.at: Change | None = None

    def __call__(self, change: Change) -> int | None:
        self.seen += 1
        if self.seen == self._number:
            self.at = change
            self._kill()
        return None if self.at is None else errno.EIO


def _path(pid: int, call: Call, arguments: list[int]) -> str:
    """Of the file that a call is about. Raises OSError where it is none, or gone."""
    if call.path is None:
        assert call.file is not None
        return os.readlink(f"/proc/{pid}/fd/{_int(arguments[call.file])}")
    named = _text(pid, arguments[call.path])
    folder = _AT_FDCWD if call.folder is None else _int(arguments[call.folder])
    base = f"/proc/{pid}/cwd" if folder == _AT_FDCWD else f"/proc/{pid}/fd/{folder}"
    return os.path.normpath(os.path.join(os.readlink(base), named))


def _text(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        # Up to the end of a page: behind it there may be nothing.
        found = memory.read(_LONGEST - address % _LONGEST)
        if b"\0" not in found:
            found += memory.read(_LONGEST)
    return os.fsdecode(found.partition(b"\0")[0])


def _int(argument: int) -> int:
    return ctypes.c_int(argument & 0xFFFF_FFFF).value


def _say_full(pid: int, address: int, path: str) -> int:
    """Answer `statfs` ourselves: everything as it is, but for the space that is free."""
    found = os.statvfs(path if os.path.exists(path) else os.path.dirname(path))
    numbers = (0xEF53, found.f_bsize, found.f_blocks, 0, 0, found.f_files, found.f_ffree)
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        memory.write(struct.pack("7q8x3q", *numbers, found.f_namemax, found.f_frsize, 0) + bytes(32))
    return 0
