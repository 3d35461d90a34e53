"""The settings of a running studio: one current value, changed as a whole, kept in step with the file."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec

from contract.errors import StaleVersion
from contract.validation import decode
from orchestrator.settings.file import FILE, check, load, save
from orchestrator.settings.tables import Settings

#: Told of new settings, on the event loop; it must neither block nor fail.
Listener = Callable[[Settings], object]


class SettingsStore:
    """`settings.toml` while a studio runs. Making one reads the file; raises SettingsInvalid."""

    def __init__(self, home: Path) -> None:
        self._home: Final = home
        self._listeners: Final[list[Listener]] = []
        self._changing: Final = anyio.Lock()
        self._read()

    @property
    def current(self) -> Settings:
        """What is in force."""
        return self._current

    @property
    def etag(self) -> str:
        """A strong ETag (RFC 9110) of what is in force."""
        return etag(self._current)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the new settings after every change."""
        self._listeners.append(listener)

    async def refresh(self) -> Settings:
        """What is in force, read again if the file was edited. Raises SettingsInvalid."""
        async with self._changing:
            await self._take_edits()
        return self._current

    async def change(self, patch: Mapping[str, Any], expected: str) -> Settings:
        """Apply a merge patch (RFC 7396: null takes the default) to the version whose ETag is `expected`.

        Raises StaleVersion where that is not, or no longer, in force, InvalidParams with every problem of the
        outcome, SettingsInvalid, DiskFull and FileUnwritable; then nothing has changed.
        """
        async with self._changing:
            await self._take_edits()
            if expected != self.etag:
                raise StaleVersion(
                    "The settings were changed by somebody else meanwhile.",
                    hint="Read them again and make the change anew.",
                    details={"etag": self.etag},
                )
            changed = decode(merged(msgspec.to_builtins(self._current), patch), Settings)
            # Once the file is written it must also be in force, whoever has stopped waiting for it.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._save, changed)
            self._tell()
        return changed

    async def _take_edits(self) -> None:
        if await anyio.to_thread.run_sync(_stamp, self._home) == self._stamp:
            return
        before = self._current
        await anyio.to_thread.run_sync(self._read)
        if before != self._current:
            self._tell()

    def _read(self) -> None:
        # Before the reading: an edit in between is seen the next time.
        stamp = _stamp(self._home)
        self._current, self._stamp = load(self._home), stamp

    def _save(self, settings: Settings) -> None:
        check(settings, self._home, "$")
        save(self._home, settings)
        self._current, self._stamp = settings, _stamp(self._home)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(self._current)


def etag(settings: Settings) -> str:
    """A strong ETag of what these settings say."""
    said = msgspec.json.encode(settings, order="deterministic")
    return f'"{hashlib.sha256(said).hexdigest()[:32]}"'


def merged(target: Any, patch: Any) -> Any:
    """`target` after a JSON merge patch."""
    if not isinstance(patch, Mapping):
        return patch
    whole = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            whole.pop(name, None)
        else:
            whole[name] = merged(whole.get(name), value)
    return whole


def _stamp(home: Path) -> tuple[int, ...] | None:
    """What changes when the file does; None where there is none."""
    try:
        found = os.stat(home / FILE)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
