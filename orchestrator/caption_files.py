"""Caption files beside images: read without guessing, written so that a crash leaves the old or the new."""

import os
from collections.abc import Iterable
from typing import Final

from contract.errors import CaptionUnreadable, DiskFull, FileUnwritable, LorakeetError
from contract.rules.paths import to_wire

#: What is being written, beside its target; a name of our own, so that leftovers of a crash are recognised.
_TEMPORARY: Final = ".lorakeet-tmp"
_NO_SPACE: Final = 28  # errno.ENOSPC


def read(path: str) -> str | None:
    """The caption in a file, None where there is no file. Raises CaptionUnreadable."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionUnreadable(
            f"The caption {to_wire(os.path.basename(path))} cannot be read as text in UTF-8.",
            where=to_wire(path),
            hint="Convert it to UTF-8; nothing of it was changed.",
        ) from error


def write(path: str, caption: str) -> None:
    """Replace the file by `caption` and a newline: temporary file, then rename.

    It is safe from a crash of this process at once, and from a power cut after `settle`. Raises DiskFull and
    FileUnwritable.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(caption + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error


def settle() -> None:
    """Bring all that was written to the disk; once at the end of many."""
    if hasattr(os, "sync"):
        os.sync()


def clear_leftovers(paths: Iterable[str]) -> None:
    """Remove what a crash left of writing the captions at `paths`."""
    for path in paths:
        try:
            os.unlink(_temporary(path))
        except OSError:
            continue


def _temporary(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{_TEMPORARY}")


def _explained(error: OSError, path: str) -> LorakeetError:
    name = to_wire(os.path.basename(path))
    if error.errno == _NO_SPACE:
        return DiskFull(f"The disk is full; {name} was not written.", where=to_wire(path))
    return FileUnwritable(f"{name} cannot be written.", where=to_wire(path))
