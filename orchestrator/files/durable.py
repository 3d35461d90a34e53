"""Files that matter: written beside their place, brought to the disk, then renamed. A crash leaves the old
file or the new one, never half of either."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from contract.errors import DiskFull, FileUnwritable, LorakeetError
from contract.rules.paths import to_wire

#: Never through a link or into a file that somebody put there. Windows has text files, but no such links.
_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def replace(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Make `data` the content of `path`; from here on it survives a power cut. One writer a path at a time.

    Raises DiskFull and FileUnwritable, and then the old content stands.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _remove(temporary)
        _write(temporary, data, mode)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            _remove(temporary)
        raise unwritten(error, path) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk; Windows does so by itself. Raises OSError."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritten(error: OSError, path: Path) -> LorakeetError:
    """What a user is told of a file that could not be written."""
    named = to_wire(str(path))
    if error.errno in _FULL:
        return DiskFull(f"The disk is full; {named} was not written.", where=named)
    why = os.strerror(error.errno) if error.errno else str(error)
    return FileUnwritable(f"{named} cannot be written: {why}.", where=named)


def _write(path: Path, data: bytes, mode: int) -> None:
    with open(os.open(path, _FLAGS, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
