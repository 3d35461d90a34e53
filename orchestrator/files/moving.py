"""Moving files and folders without ever overwriting or losing one: renamed where that can be, else copied,
compared and only then removed."""

import errno
import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from contract.errors import DiskFull, FileUnreadable, LorakeetError, StateConflict
from contract.rules.paths import to_wire
from orchestrator.files import durable

_CHUNK_BYTES: Final = 4 * 1024 * 1024
#: What is being copied has this ending until it is whole.
_UNFINISHED: Final = ".lorakeet-part"


def move(source: Path, target: Path, *, durably: bool = True) -> None:
    """Bring `source`, a file, a folder or a link, to `target`; on another disk, too.

    Not `durably`: a power cut may undo it, where it is done to undo something itself.

    Raises StateConflict where there is something at `target` already, DiskFull, FileUnwritable and
    FileUnreadable; then `source` is where it was, and whole.
    """
    try:
        _require_free(target)
        try:
            _rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_and_remove(source, target)
        else:
            if durably:
                _settle_or_undo(source, target)
    except OSError as error:
        raise durable.unwritten(error, target) from error


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        named = to_wire(str(target))
        raise StateConflict(
            f"There is something at {named} already.", where=named, hint="Move it away, then try again."
        )


def _rename(source: Path, target: Path) -> None:
    """Without overwriting what somebody may have put there meanwhile, as far as the system allows."""
    if sys.platform != "win32" and source.is_file() and not source.is_symlink():
        try:
            os.link(source, target)
        except FileExistsError:
            _require_free(target)
            raise
        except OSError as error:
            # A disk without hard links. Another disk is the caller's affair.
            if error.errno == errno.EXDEV:
                raise
        else:
            _unlink_or_undo(source, target)
            return
    os.rename(source, target)


def _settle_or_undo(source: Path, target: Path) -> None:
    """Bring both names to the disk."""
    try:
        durable.sync_folder(target.parent)
        durable.sync_folder(source.parent)
    except OSError:
        with suppress(OSError):
            _rename(target, source)
        raise


def _unlink_or_undo(source: Path, target: Path) -> None:
    try:
        os.unlink(source)
    except OSError:
        os.unlink(target)
        raise


def _copy_and_remove(source: Path, target: Path) -> None:
    unfinished = target.with_name(target.name + _UNFINISHED)
    _remove(unfinished)
    try:
        _require_room(source, target)
        _copy(source, unfinished)
        _rename(unfinished, target)
        durable.sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            _remove(unfinished)
        raise
    _remove(source)


def _require_room(source: Path, target: Path) -> None:
    size = size_of(source)
    if shutil.disk_usage(target.parent).free <= size:
        named = to_wire(str(target.parent))
        raise DiskFull(f"{size} bytes do not fit on the disk of {named}.", where=named)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count nothing. Raises OSError."""
    if path.is_symlink():
        return 0
    if path.is_dir():
        return sum(size_of(each) for each in path.iterdir())
    return path.stat().st_size


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
    elif source.is_dir():
        os.mkdir(target)
        for each in sorted(source.iterdir()):
            _copy(each, target / each.name)
        durable.sync_folder(target)
        shutil.copystat(source, target)
    else:
        _copy_file(source, target)


def _copy_file(source: Path, target: Path) -> None:
    before = os.stat(source)
    written = hashlib.sha256()
    with open(source, "rb") as old, open(target, "xb") as new:
        while chunk := old.read(_CHUNK_BYTES):
            written.update(chunk)
            new.write(chunk)
        new.flush()
        os.fsync(new.fileno())
    shutil.copystat(source, target)
    after = os.stat(source)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _changed(source)
    with open(target, "rb") as new:
        if hashlib.file_digest(new, "sha256").digest() != written.digest():
            raise _differs(source)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _changed(source: Path) -> LorakeetError:
    named = to_wire(str(source))
    return StateConflict(f"{named} was changed while it was being copied.", where=named, hint="Try again.")


def _differs(source: Path) -> LorakeetError:
    named = to_wire(str(source))
    return FileUnreadable(
        f"The copy of {named} is not the same as the file.", where=named, hint="Check both disks."
    )
