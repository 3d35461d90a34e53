"""stdout and stderr made safe: they exist, take any text, and their end is no traceback."""

import contextlib
import io
import os
import sys
from typing import Final, TextIO

#: As a shell shows a program that ended by SIGPIPE.
UNHEARD: Final = 141


class Unheard(Exception):
    """Raised when nobody reads stdout or stderr any more, or what they lead to takes nothing."""


def prepare() -> None:
    """Before the first word: open what is closed, and let no character be an error."""
    _occupy()
    sys.stdout = _harmless(sys.stdout)
    sys.stderr = _harmless(sys.stderr)


def finish(code: int) -> int:
    """After the last word: write what is buffered; the exit code, which is another where that failed."""
    heard = [_flushed(stream) for stream in (sys.stdout, sys.stderr)]
    return code if all(heard) or code else UNHEARD


def silence() -> None:
    """Nobody listens: lead stdout and stderr to nowhere, so that no later word fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if not _flushed(stream):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())


def _occupy() -> None:
    """Open standard descriptors that are closed (`>&-`), or the next file or pipe would take their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _harmless(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _flushed(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return False
    return True
