"""Putting an uploaded file into a dataset's folder: whole or not at all, and over nothing. Blocks."""

import hashlib
import os
import shutil
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from contract.errors import FileUnreadable, StateConflict
from contract.rules.paths import to_wire
from orchestrator.datasets.names import stem_of
from orchestrator.files import caption_files
from orchestrator.files.beneath import CREATE, READ, Folder
from orchestrator.files.durable import unwritten
from orchestrator.files.filenames import numbered

#: Files of one name; who sends more of them should choose better names.
_MAX_NUMBER = 10_000


class Placed(NamedTuple):
    """Where the content now is. `is_new`: it was not there before."""

    name: str
    is_new: bool
    size_bytes: int
    mtime_ns: int


def place(folder: Folder, source: str, name: str, sha256: str, taken_stems: Container[str]) -> Placed:
    """Give the file at `source`, of that content, a name in `folder`: `name`, or one like it with a number.

    Where the same content has such a name already, that is the answer. `taken_stems` are of images whose
    caption files would be its own. Raises DiskFull, FileUnwritable and StateConflict.
    """
    try:
        for number in range(1, _MAX_NUMBER):
            wanted = numbered(name, number)
            there = _digest(folder, wanted)
            if there == sha256:
                return _placed(folder, wanted, is_new=False)
            if there is None and stem_of(wanted) not in taken_stems and _put(folder, source, wanted):
                return _placed(folder, wanted, is_new=True)
    except OSError as error:
        raise unwritten(error, Path(folder.path, name)) from error
    raise StateConflict(f"There are too many files like {name}.", where=name)


def _put(folder: Folder, source: str, name: str) -> bool:
    """Whether the name was free."""
    if os.stat(source, follow_symlinks=False).st_nlink != 1:
        raise FileUnreadable("The upload was tampered with.", where=to_wire(name))
    try:
        folder.take(source, name)
    except FileExistsError:
        return False
    except OSError:
        return _copy(folder, source, name)
    with suppress(OSError):
        os.unlink(source)
    return True


def _copy(folder: Folder, source: str, name: str) -> bool:
    """From another disk, or on one without hard links."""
    temporary = caption_files.temporary_name(name)
    with suppress(FileNotFoundError):
        folder.unlink(temporary)
    try:
        with open(source, "rb") as old, open(folder.open(temporary, CREATE), "wb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
        return folder.rename_new(temporary, name)
    finally:
        with suppress(FileNotFoundError):
            folder.unlink(temporary)


def _placed(folder: Folder, name: str, *, is_new: bool) -> Placed:
    status = folder.stat(name)
    return Placed(name, is_new, status.st_size, status.st_mtime_ns)


def _digest(folder: Folder, name: str) -> str | None:
    """Of the file that has this name; None where nothing has, and an empty text for what is no file."""
    try:
        with open(folder.open(name, READ), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError:
        return ""
