"""The user's keys of services: in the system's keyring where there is one, else in a file of their own.

Nobody is told a key but the kernel that needs it: lists show that it is set, and its last characters.
"""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from contract.base import Reply
from contract.errors import InvalidParams, NotFound
from contract.rules.paths import to_wire
from orchestrator.keys.redaction import Redactor
from orchestrator.keys.vaults import FileVault, KeyringVault

FILE: Final = "secrets"
#: What keys can be given for, and what people call it.
SERVICES: Final = {"huggingface": "Hugging Face", "civitai": "Civitai"}
#: Of a shorter key, four characters would be too much to show.
_SHOWN_FROM: Final = 12
_KEY: Final = re.compile("[!-~]{1,4096}")

Place = Literal["keyring", "file"]


class KeyState(Reply, kw_only=True):
    """Whether a key is set. `last4` are its last characters, null where it is too short to show any."""

    name: str
    title: str
    set: bool
    last4: str | None
    place: Place | None


class _Found(NamedTuple):
    value: str
    place: Place


class Keys:
    """The keys of one data directory. Every call may wait for the system's keyring, so none is for the loop.

    `redactor` knows every key that was read or set here.
    """

    def __init__(self, home: Path) -> None:
        self.redactor: Final = Redactor()
        # Named with the directory: two studios of one user keep their keys apart.
        self._keyring: Final = KeyringVault(f"lorakeet {to_wire(str(home))}")
        self._file: Final = FileVault(home / FILE)
        self._busy: Final = threading.Lock()

    def list(self) -> list[KeyState]:
        """Every service, with or without a key. Raises FileUnreadable."""
        found = self._found()
        return [_state(name, found.get(name)) for name in SERVICES]

    def all(self) -> dict[str, str]:
        """The keys themselves, by service: for a kernel's handshake alone. Raises FileUnreadable."""
        return {name: each.value for name, each in self._found().items()}

    def get(self, name: str) -> str | None:
        """A key itself; None where it is not set. Raises NotFound and FileUnreadable."""
        _require(name)
        return self.all().get(name)

    def set(self, name: str, value: str) -> KeyState:
        """Keep a key, in the place of an older one.

        Raises NotFound, InvalidParams, FileUnreadable, FileUnwritable and DiskFull.
        """
        _require(name)
        if not _KEY.fullmatch(value):
            raise InvalidParams(
                "A key has 1 to 4096 letters, digits and signs, no blanks or line breaks.", where="$.value"
            )
        self.redactor.learn(value)
        with self._busy:
            if not self._keyring.write(name, value):
                self._file.write({**self._file.read(), name: value})
                return _state(name, _Found(value, "file"))
            self._forget_in_file(name)
        return _state(name, _Found(value, "keyring"))

    def delete(self, name: str) -> None:
        """Forget a key, wherever it is; nothing happens where there is none.

        Raises NotFound, FileUnreadable, FileUnwritable and DiskFull.
        """
        _require(name)
        with self._busy:
            self._forget_in_file(name)
            self._keyring.remove(name)

    def _found(self) -> dict[str, _Found]:
        with self._busy:
            found = dict(self._search())
        self.redactor.learn(*(each.value for each in found.values()))
        return found

    def _search(self) -> Iterator[tuple[str, _Found]]:
        kept = self._file.read()
        for name in SERVICES:
            # The file first: a key is there only while the keyring has not taken it, or an older one.
            if value := kept.get(name):
                yield name, _Found(value, "file")
            elif value := self._keyring.read(name):
                yield name, _Found(value, "keyring")

    def _forget_in_file(self, name: str) -> None:
        kept = self._file.read()
        if kept.pop(name, None) is not None:
            self._file.write(kept)


def _require(name: str) -> None:
    if name not in SERVICES:
        raise NotFound(f"There is no service `{name}`.", hint=f"There are {', '.join(SERVICES)}.")


def _state(name: str, found: _Found | None) -> KeyState:
    return KeyState(
        name=name,
        title=SERVICES[name],
        set=found is not None,
        last4=found.value[-4:] if found is not None and len(found.value) >= _SHOWN_FROM else None,
        place=None if found is None else found.place,
    )
