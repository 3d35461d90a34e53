"""Folders, and the names in them, brought to the disk."""

import errno
import os
import sys
from contextlib import suppress
from typing import Final

#: What file systems say that cannot bring folders to the disk by themselves.
_NO_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def make_folder(path: str) -> None:
    """A folder and those above it, whose names are brought to the disk. Raises OSError."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(path)
    sync_folder(above)


def sync_folder(path: str) -> None:
    """Bring the names in a folder to the disk; Windows does so by itself. Raises OSError."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
