"""Locks on what is unfinished: they end with the process that holds them, whatever ended it."""

import sys


def locked(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock was got; never where the file system has none, so that nothing of a living process is
    taken for a dead one's."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
