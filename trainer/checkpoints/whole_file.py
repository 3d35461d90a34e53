"""Small files inside a folder that is not published yet: written once, down to the disk, and hashed."""

import hashlib
import os
from typing import Final, NamedTuple

from trainer.weights.unfinished import unwritten

_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)


class Kept(NamedTuple):
    """A file that is on the disk: its name in its folder, its size in bytes and its SHA-256 in lower case."""

    name: str
    bytes: int
    sha256: str


def keep(path: str, data: bytes) -> Kept:
    """Write a new file. Raises DiskFull and FileUnwritable; its folder goes then, and what is in it."""
    try:
        with open(os.open(path, _FLAGS, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritten(error, path) from error
    return Kept(os.path.basename(path), len(data), hashlib.sha256(data).hexdigest())
