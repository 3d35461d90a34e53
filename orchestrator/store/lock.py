"""One studio or command a data directory: a lock that goes with its process, however that ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from contract.errors import DiskFull, FileUnwritable, LorakeetError, StoreLocked
from contract.rules.paths import to_wire

FILE: Final = "studio.lock"
_NO_SPACE: Final = 28  # errno.ENOSPC


@contextmanager
def lock(home: Path) -> Iterator[None]:
    """Hold the data directory, made where there is none. Raises StoreLocked, FileUnwritable and DiskFull."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(home / FILE, "a+b")
    except OSError as error:
        raise _unwritable(error, home) from error
    with file:
        if not _taken(file):
            raise StoreLocked(
                f"The data directory {to_wire(str(home))} is in use by another studio or command.",
                where=to_wire(str(home)),
                hint="Stop the other one, or choose another directory with --data.",
            )
        try:
            yield
        finally:
            _release(file)


def _taken(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _release(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        with suppress(OSError):
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


def _unwritable(error: OSError, home: Path) -> LorakeetError:
    named = to_wire(str(home))
    if error.errno == _NO_SPACE:
        return DiskFull(f"The disk of {named} is full.", where=named)
    return FileUnwritable(
        f"The data directory {named} cannot be written: {os.strerror(error.errno or 0)}.",
        where=named,
        hint="Choose another one with --data or LORAKEET_HOME.",
    )
