"""Whether the studio can do its work now: its database takes writes, its disk has room, a kernel starts."""

import shutil
import sqlite3
import time
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from contract.errors import LorakeetError
from orchestrator.clock import now_ms
from orchestrator.settings import load
from orchestrator.store.database import Database

#: Seconds for which an answer is good: whoever asks all the time must not wear out the disk.
GOOD_FOR_S: Final = 2.0
#: Seconds after which a database counts as one that takes no writes.
_PATIENCE_S: Final = 5.0


class Readiness:
    """Of one studio."""

    def __init__(self, home: Path, control: Database) -> None:
        self._home = home
        self._control = control
        self._looking = anyio.Lock()
        self._reasons: tuple[str, ...] = ()
        self._until = 0.0

    async def reasons(self) -> tuple[str, ...]:
        """Why it is not ready; nothing if it is."""
        async with self._looking:
            if time.monotonic() >= self._until:
                self._reasons = (
                    *await self._of_database(),
                    *await anyio.to_thread.run_sync(self._of_machine),
                )
                self._until = time.monotonic() + GOOD_FOR_S
        return self._reasons

    async def _of_database(self) -> list[str]:
        try:
            with anyio.fail_after(_PATIENCE_S):
                await self._control.write(_touch)
        except LorakeetError as error:
            return [error.message]
        except TimeoutError:
            return ["The database does not answer."]
        return []

    def _of_machine(self) -> list[str]:
        from orchestrator.hosting.kernels import kernel_command
        from orchestrator.machine.system import free_bytes

        try:
            settings = load(self._home)
            program = kernel_command(settings)[0]
        except LorakeetError as error:
            return [error.message]
        reasons = []
        if shutil.which(program) is None:
            reasons.append(f"There is no program `{program}`, which is to start a kernel.")
        free = free_bytes(self._home)
        if free is not None and free < settings.limits.min_free_bytes:
            reasons.append(f"The data directory's disk has {free} bytes left.")
        return reasons


def _touch(db: sqlite3.Connection) -> None:
    db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('ready_ms', ?)", (now_ms(),))
