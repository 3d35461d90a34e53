"""`studio.json`: says where the studio that runs on a data directory is, to programs of the same user."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from contract.errors import PathNotAbsolute
from contract.rules.paths import from_wire, to_wire
from orchestrator.files.durable import replace

FILE: Final = "studio.json"
TOKEN_FILE: Final = "studio.token"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """`url` is how programs on this machine reach it.

    The token in `token_file`, an absolute path as paths travel, is good for this boot only.
    """

    url: str
    pid: int
    boot_id: str
    version: str
    token_file: str

    def token(self) -> str | None:
        """The token; None where the studio has ended meanwhile."""
        try:
            return Path(from_wire(self.token_file)).read_text("ascii").strip()
        except (OSError, ValueError, PathNotAbsolute):
            return None


@contextmanager
def announced(home: Path, url: str, boot_id: str, version: str, token: str) -> Iterator[Running]:
    """Say that a studio runs, for as long as the block lasts. Raises DiskFull and FileUnwritable.

    Only the owner of the data directory can read it.
    """
    token_file = to_wire(str(home / TOKEN_FILE))
    running = Running(url=url, pid=os.getpid(), boot_id=boot_id, version=version, token_file=token_file)
    try:
        replace(home / TOKEN_FILE, f"{token}\n".encode("ascii"), mode=0o600)
        replace(home / FILE, msgspec.json.encode(running), mode=0o600)
        yield running
    finally:
        for name in (FILE, TOKEN_FILE):
            with suppress(OSError):
                os.unlink(home / name)


def find_running(home: Path) -> Running | None:
    """What the last studio said of itself, if its process is there. That it is the same, it must say."""
    try:
        running = msgspec.json.decode((home / FILE).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return running if _is_there(running.pid) else None


def _is_there(pid: int) -> bool:
    if sys.platform == "win32" or pid < 1:
        # Signal 0 would be Ctrl+C there.
        return pid > 0
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
