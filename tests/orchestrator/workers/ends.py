"""Waiting for the end of a process by its number, whoever its parent is."""

import os
import sys
from typing import Final

import anyio
import pytest

#: Seconds that any process may take to end before a test gives up.
PATIENCE_S: Final = 15

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of the end of any process")


async def ended(pid: int) -> None:
    """Return once `pid` has ended; it may be somebody else's child, and need not be reaped."""
    if sys.platform != "linux":
        return
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(PATIENCE_S):
            await anyio.wait_readable(fd)
    finally:
        os.close(fd)
