"""A folder while it is being filled: beside its place, under a name of its own, until it is whole.

A crash leaves no half of a checkpoint, at most an unfinished folder, which the next checkpoint clears away.
A process holds a lock on its own, which ends with the process whatever ended it; where the system has no
locks of folders, as Windows, only one process may write checkpoints into one folder.
"""

import errno
import os
import re
import secrets
import shutil
import sys
from contextlib import suppress
from typing import Final

from trainer.weights.folders import make_folder, sync_folder
from trainer.weights.locks import locked
from trainer.weights.unfinished import exists, unwritten

_NAME: Final = re.compile(r"\.checkpoint-[0-9a-f]{16}\.part")


class UnfinishedFolder:
    """A new folder at `path`, in `parent`, which is made where it is missing."""

    def __init__(self, parent: str) -> None:
        """Raises DiskFull and FileUnwritable."""
        self._parent = parent
        self._lock = -1
        self.path = ""
        try:
            make_folder(parent)
            clear(parent)
            self._create()
        except OSError as error:
            self.discard()
            raise unwritten(error, parent) from error

    def publish(self, name: str) -> None:
        """Give the folder, whose files are on the disk by now, its place in one step.

        Raises OutputExists where the place was taken meanwhile, DiskFull and FileUnwritable. After an error
        of the last step, which brings the name to the disk, the folder stays, whole.
        """
        target = os.path.join(self._parent, name)
        try:
            sync_folder(self.path)
            os.rename(self.path, target)
            self.path = ""
            self._release()
            sync_folder(self._parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise exists(target) from None
            raise unwritten(error, target) from error

    def discard(self) -> None:
        """Leave nothing of it, unless it was published. Never raises."""
        if self.path:
            shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _create(self) -> None:
        """Make the folder and lock it; again where another process took it for a dead one's in between."""
        while self._lock < 0:
            self.path = os.path.join(self._parent, _new_name())
            os.mkdir(self.path)
            if sys.platform == "win32":
                return
            with suppress(FileNotFoundError):
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                locked(self._lock, wait=True)
                if not os.path.exists(self.path):
                    self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)


def remove(parent: str, name: str) -> None:
    """Remove a folder so that no half of it is ever seen under its name. Raises FileUnwritable."""
    path = os.path.join(parent, name)
    gone = os.path.join(parent, _new_name())
    try:
        os.rename(path, gone)
        # Else a power cut could bring the name back, over files that are gone.
        sync_folder(parent)
    except OSError as error:
        raise unwritten(error, path) from error
    shutil.rmtree(gone, ignore_errors=True)


def clear(parent: str) -> None:
    """Remove what processes left unfinished that are no more. Raises OSError where there is no folder."""
    for name in os.listdir(parent):
        if _NAME.fullmatch(name):
            with suppress(OSError):
                _remove_dead(os.path.join(parent, name))


def _new_name() -> str:
    return f".checkpoint-{secrets.token_hex(8)}.part"


def _remove_dead(path: str) -> None:
    if sys.platform == "win32":
        shutil.rmtree(path, ignore_errors=True)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if locked(descriptor, wait=False):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
