"""Takes the wire away from everybody else, before anything else is imported.

The pipe to the host moves to private descriptors. Descriptor 0 becomes the null device and descriptor 1
becomes stderr, so that whatever Python, C, a child process or onnxruntime prints can never reach the wire.
What Python prints does not wait for stderr either.
"""

import os
import sys
from typing import Final, NamedTuple

from kernel import noise

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


class Wire(NamedTuple):
    """The two ends of the wire: private, not inheritable, binary."""

    reading: int
    writing: int


def take() -> Wire:
    """Move the wire to private descriptors. To be called once, first of all."""
    _ensure_stderr()
    wire = Wire(os.dup(_STDIN), os.dup(_STDOUT))
    if sys.platform != "win32":
        # A launcher may leave its pipes non-blocking; the threads that own the wire wait for it.
        for fd in wire:
            os.set_blocking(fd, True)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, _STDIN)
    os.close(null)
    os.dup2(_STDERR, _STDOUT)
    sys.stdout = sys.stderr = noise.stream(_STDERR)
    if sys.platform == "win32":
        _make_binary(wire)
    return wire


def _ensure_stderr() -> None:
    """A host may close stderr; without it, descriptor 2 would be given to the next file opened."""
    try:
        os.fstat(_STDERR)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != _STDERR:
            os.dup2(null, _STDERR)
            os.close(null)


def _make_binary(wire: Wire) -> None:
    if sys.platform == "win32":
        import ctypes
        import msvcrt

        for fd in wire:
            msvcrt.setmode(fd, os.O_BINARY)
        # dup2 moves the C runtime's descriptors only; native code asks Windows for its standard handles.
        kernel32 = ctypes.windll.kernel32
        kernel32.SetStdHandle(-10, msvcrt.get_osfhandle(_STDIN))
        kernel32.SetStdHandle(-11, msvcrt.get_osfhandle(_STDERR))
