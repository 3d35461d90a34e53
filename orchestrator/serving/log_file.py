"""`studio.log`: what the studio's log says, a JSON object a line, so that a request's id finds its traceback.

Kept small by itself, readable by the owner alone, and without secrets.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.errors import FileUnwritable
from contract.rules.paths import to_wire
from orchestrator.clock import rfc3339
from orchestrator.keys.redaction import RedactingFilter, Redactor

FILE: Final = "studio.log"
MAX_BYTES: Final = 4 * 1024 * 1024
#: Older files that are kept: studio.log.1 to .3.
KEPT: Final = 3
_OWN_SECRET: Final = re.compile(r"\blk_[A-Za-z0-9_-]{16,}")


@contextmanager
def logging_to(home: Path, boot_id: str, redactor: Redactor) -> Iterator[None]:
    """Write the log for as long as the block lasts. Raises FileUnwritable."""
    handler = _opened(home / FILE)
    handler.setFormatter(_Json(boot_id))
    handler.addFilter(RedactingFilter(redactor))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        # What a full disk did not take is tried once more here.
        with suppress(OSError):
            handler.close()


class _Handler(RotatingFileHandler):
    """Never a reason for anything else to fail: on a full disk, lines are lost."""

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        return


class _Json(logging.Formatter):
    """A record as a line."""

    def __init__(self, boot_id: str) -> None:
        super().__init__()
        self._boot_id = boot_id

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "boot_id": self._boot_id,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["trace"] = record.exc_text
        line = msgspec.json.encode({name: _harmless(text) for name, text in fields.items()})
        return line.decode()


def _harmless(text: str) -> str:
    """Without our own secrets, and with nothing that UTF-8 has no bytes for."""
    return _OWN_SECRET.sub("lk_***", text).encode("utf-8", "backslashreplace").decode()


def _opened(path: Path) -> _Handler:
    try:
        return _Handler(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
    except OSError as error:
        named = to_wire(str(path))
        raise FileUnwritable(f"{named} cannot be written: {error.strerror}.", where=named) from error
