"""A file while it is being written: beside its place, under a name of its own, until it is whole.

A crash leaves no half of an output, at most an unfinished file, and the next one made in the same folder
clears it away: a process holds a lock on its own, which ends with the process whatever ended it.
"""

import errno
import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from typing import Final

from contract.errors import DiskFull, FileUnwritable, LorakeetError, OutputExists
from contract.rules.paths import to_wire
from trainer.weights.locks import locked

_NAME: Final = re.compile(r"\.lorakeet-[0-9a-f]{16}\.part")
#: Never through a link or into a file that somebody put there.
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
#: What a file system says that has no hard links.
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class Unfinished:
    """A new file in the folder of `path`, open for reading and writing as `descriptor`, named `name`."""

    def __init__(self, path: str) -> None:
        """Raises DiskFull and FileUnwritable."""
        self.path = path
        self._folder = os.path.dirname(path) or os.curdir
        try:
            _clear(self._folder)
            self.name, self.descriptor = _create(self._folder)
        except OSError as error:
            raise unwritten(error, path) from error

    def reserve(self, size: int) -> None:
        """Have the disk set `size` bytes aside, so that a full one is known before the work is done.

        Where the system cannot, nothing happens. Raises OSError.
        """
        if sys.platform == "linux" and size:
            try:
                os.posix_fallocate(self.descriptor, 0, size)
            except OSError as error:
                if error.errno in _FULL:
                    raise

    def publish(self, *, overwrite: bool) -> None:
        """Give the file, which is on the disk by now, its place in one step. The descriptor is closed.

        Raises OutputExists where the place was taken meanwhile, and OSError.
        """
        if overwrite:
            self._keep_mode()
        # Windows renames closed files only; elsewhere the lock is kept until the name is gone.
        if sys.platform == "win32":
            self._close()
        try:
            if overwrite:
                os.replace(self.name, self.path)
            else:
                _rename_new(self.name, self.path)
        except FileExistsError:
            raise exists(self.path) from None
        self._close()
        _sync_folder(self._folder)

    def discard(self) -> None:
        """Leave nothing of it, unless it was published. Never raises."""
        with suppress(OSError):
            if sys.platform == "win32":
                self._close()
            os.unlink(self.name)
        self._close()

    def _keep_mode(self) -> None:
        """The permissions of the file that it takes the place of."""
        with suppress(OSError):
            os.chmod(self.name, stat.S_IMODE(os.stat(self.path).st_mode))

    def _close(self) -> None:
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


def unwritten(error: OSError | ValueError, path: str) -> LorakeetError:
    """What a user is told of a file that could not be written; a ValueError is a name with a NUL in it."""
    named, code = to_wire(path), getattr(error, "errno", None) or errno.EINVAL
    if code in _FULL:
        return DiskFull(f"The disk is full; `{named}` was not written.", where=named)
    why = "its folder does not exist" if code == errno.ENOENT else os.strerror(code)
    return FileUnwritable(f"`{named}` cannot be written: {why}.", where=named)


def exists(path: str) -> OutputExists:
    """What a user is told of an output that is there already."""
    named = to_wire(path)
    return OutputExists(
        f"`{named}` is there already.", where=named, hint="Choose another name, or allow to overwrite it."
    )


def _create(folder: str) -> tuple[str, int]:
    """A new file of ours, locked."""
    while True:
        name = os.path.join(folder, f".lorakeet-{secrets.token_hex(8)}.part")
        descriptor = os.open(name, _FLAGS, 0o666)
        locked(descriptor, wait=True)
        # Between the creation and the lock, another process may have taken it for a dead one's.
        with suppress(OSError):
            if os.path.samestat(os.stat(name), os.fstat(descriptor)):
                return name, descriptor
        os.close(descriptor)


def _clear(folder: str) -> None:
    """Remove the unfinished files of processes that are no more. Raises OSError where there is no folder."""
    for name in os.listdir(folder):
        if _NAME.fullmatch(name):
            with suppress(OSError):
                _remove_dead(os.path.join(folder, name))


def _remove_dead(path: str) -> None:
    if sys.platform == "win32":
        # A file that is open in another process is not removed.
        os.unlink(path)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if locked(descriptor, wait=False):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _rename_new(name: str, path: str) -> None:
    """Rename where nothing is. Raises FileExistsError and OSError."""
    if sys.platform != "win32":
        try:
            os.link(name, path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(name)
            return
        # Without links there is a moment between the look and the rename.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    os.rename(name, path)


def _sync_folder(folder: str) -> None:
    """Bring the new name to the disk; Windows does so by itself, and some file systems cannot."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
