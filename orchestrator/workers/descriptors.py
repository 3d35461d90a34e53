"""Keeps the pipes between pool and worker for the protocol: whatever a decoder prints goes to stderr."""

import os
import sys
from typing import BinaryIO, Final, NamedTuple

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


class Pipes(NamedTuple):
    """Private ends, inherited by nobody."""

    reading: BinaryIO
    writing: BinaryIO


def take() -> Pipes:
    """Move the pipes away from stdin and stdout. To be called once, first of all."""
    reading, writing = os.dup(_STDIN), os.dup(_STDOUT)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, _STDIN)
    os.close(null)
    os.dup2(_STDERR, _STDOUT)
    sys.stdout = sys.stderr
    if sys.platform == "win32":
        import msvcrt

        for fd in (reading, writing):
            msvcrt.setmode(fd, os.O_BINARY)
    return Pipes(os.fdopen(reading, "rb"), os.fdopen(writing, "wb"))
