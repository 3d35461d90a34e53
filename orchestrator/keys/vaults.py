"""Where secrets are kept: the keyring of the system, or a file that only its owner can read."""

import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.errors import FileUnreadable, FileUnwritable
from contract.rules.paths import to_wire
from orchestrator.files import durable

_log = logging.getLogger(__name__)

#: More than all keys together have; such a file is none of ours.
_MAX_FILE_BYTES: Final = 1024 * 1024
#: From here on `keyring` recommends a backend; below are those that keep nothing or hide nothing.
_RECOMMENDED: Final = 1


class KeyringVault:
    """The system's keyring, under a name of this studio; it keeps nothing where the system has none."""

    def __init__(self, service: str) -> None:
        self._service = service

    def read(self, name: str) -> str | None:
        """A secret; None also where the keyring does not answer, as a locked one."""
        try:
            ring = _keyring()
            value = None if ring is None else ring.get_password(self._service, name)
        except Exception as error:  # noqa: BLE001  every system's keyring fails in its own way
            _log.warning("The system's keyring cannot be read: %s", type(error).__name__)
            return None
        return value if isinstance(value, str) else None

    def write(self, name: str, value: str) -> bool:
        """Keep a secret; whether the keyring has taken it."""
        try:
            ring = _keyring()
            if ring is None:
                return False
            ring.set_password(self._service, name, value)
        except Exception as error:  # noqa: BLE001  the same
            _log.warning("The system's keyring cannot be written: %s", type(error).__name__)
            return False
        return True

    def remove(self, name: str) -> None:
        """Forget a secret. Raises FileUnwritable where the keyring would keep it."""
        try:
            ring = _keyring()
            if ring is not None and ring.get_password(self._service, name) is not None:
                ring.delete_password(self._service, name)
        except Exception as error:
            raise FileUnwritable(
                "The system's keyring does not forget the key.",
                where=name,
                hint="Unlock the keyring, or delete the key with the system's own program.",
            ) from error


class FileVault:
    """A file of JSON, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, str]:
        """Every secret. Raises FileUnreadable."""
        try:
            return msgspec.json.decode(self._bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unreadable(os.strerror(error.errno or 0)) from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Without its cause, which has the bytes of the file.
            raise self._unreadable("it is damaged") from None

    def write(self, secrets: dict[str, str]) -> None:
        """Keep these and no others. Raises DiskFull and FileUnwritable."""
        durable.replace(self._path, msgspec.json.encode(secrets), mode=0o600)

    def _bytes(self) -> bytes:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(self._path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
                raise self._unreadable("it is no file of ours")
            if sys.platform != "win32" and found.st_mode & 0o077:
                # A copy or a backup has opened it to others.
                os.fchmod(file.fileno(), 0o600)
            return file.read()

    def _unreadable(self, why: str) -> FileUnreadable:
        named = to_wire(str(self._path))
        return FileUnreadable(
            f"The keys in {named} cannot be read: {why}.",
            where=named,
            hint="Mend or remove the file, then set the keys anew.",
        )


def _keyring() -> Any:
    """The backend of the system's keyring; None where there is none that deserves the name."""
    try:
        import keyring
    except ImportError:
        return None
    backend = keyring.get_keyring()
    return backend if backend.priority >= _RECOMMENDED else None
