"""One process at a time in the folder of a run: two would write over each other's checkpoints."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from contract.errors import FileUnwritable
from contract.rules.paths import to_wire
from trainer.weights.folders import make_folder
from trainer.weights.unfinished import unwritten

_LOCK: Final = ".lock"


@contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Make the folder and keep it for this process; the lock ends with the process, whatever ended it.

    Raises FileUnwritable where another one has it, and DiskFull.
    """
    path = os.path.join(folder, _LOCK)
    try:
        make_folder(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, ValueError) as error:
        raise unwritten(error, folder) from error
    try:
        if not _locked(descriptor):
            raise _taken(folder)
        yield
    finally:
        os.close(descriptor)


def check_alone(folder: str) -> None:
    """See that no other process has the folder; nothing is made or kept. Raises FileUnwritable."""
    try:
        descriptor = os.open(os.path.join(folder, _LOCK), os.O_RDWR)
    except (OSError, ValueError):
        # What cannot be opened here is told by whoever makes the folder.
        return
    try:
        if not _locked(descriptor):
            raise _taken(folder)
    finally:
        os.close(descriptor)


def _taken(folder: str) -> FileUnwritable:
    named = to_wire(folder)
    return FileUnwritable(
        f"Another process is training in `{named}`.",
        where=named,
        hint="Wait for it to end, or stop it first.",
    )


def _locked(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks: better one run without than none. Windows says EACCES for taken.
        return not isinstance(error, PermissionError)
    return True
