"""What was read from headers, kept over restarts: thousands of them take a while to read on a slow disk.

Only a help: without it everything is read again, and what does not fit the files any more is not used.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from contract.errors import LorakeetError
from contract.rules.paths import from_wire, to_wire
from orchestrator.files import durable
from orchestrator.models.facts import Facts

_log = logging.getLogger(__name__)

FILE: Final = "caches/models.json"
#: To be raised when other things are read from headers, or other conclusions drawn.
_VERSION: Final = 2

#: A file, by its path and what changes with its content.
Key = tuple[str, tuple[int, ...]]


class _Remembered(msgspec.Struct):
    v: int
    facts: list[tuple[str, tuple[int, ...], Facts]]


def load(home: Path) -> dict[Key, Facts]:
    """What is remembered; nothing where that cannot be read."""
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, LorakeetError):
        found = msgspec.json.decode((home / FILE).read_bytes(), type=_Remembered)
        if found.v == _VERSION:
            return {(from_wire(path), stamp): facts for path, stamp, facts in found.facts}
    return {}


def save(home: Path, facts: dict[Key, Facts]) -> None:
    """Remember these and no others. Where that cannot be done, it is only noted."""
    path = home / FILE
    rows = [(to_wire(name), stamp, about) for (name, stamp), about in facts.items() if stamp]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, msgspec.json.encode(_Remembered(_VERSION, rows)))
    except (OSError, LorakeetError) as error:
        _log.warning("What was read of models is not kept: %s", error)
