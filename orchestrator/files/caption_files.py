"""Caption files beside images: read without guessing, written so that a crash leaves the old or the new."""

import hashlib
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from contract.errors import CaptionUnreadable, DiskFull, FileUnwritable, LorakeetError
from contract.rules.paths import to_wire
from orchestrator.files.folders import names_in

#: What is being written, beside its target: a digest of the target's name, so that leftovers of a crash are
#: recognised, and a token of this process, so that two commands never write into one file. As long as that
#: whatever the target is called: a name of 255 bytes leaves no room for an ending.
_TEMPORARY: Final = ".lorakeet-{digest}-{token}.tmp"
_LEFTOVER: Final = re.compile(r"\.lorakeet-([0-9a-f]{32})-[0-9a-f]{8}\.tmp")
_TOKEN: Final = secrets.token_hex(4)
#: Never through a link that somebody put there. Windows has no such links to follow, but text files.
_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
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

    It is safe from a crash of this process at once; see `settle` for power cuts. Raises DiskFull and
    FileUnwritable.
    """
    with _written(path, caption) as temporary:
        os.replace(temporary, path)


def write_new(path: str, caption: str) -> bool:
    """The same, unless there is a file already, which somebody may have written meanwhile; whether it was.

    Raises DiskFull and FileUnwritable.
    """
    with _written(path, caption) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # No hard links on this file system (FAT, some network shares): nearly as good.
            if os.path.lexists(path):
                return False
            os.replace(temporary, path)
    return True


@contextmanager
def _written(path: str, caption: str) -> Iterator[str]:
    """A temporary file with the caption, beside its target and gone afterwards."""
    temporary = _temporary(path)
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        with open(os.open(temporary, _FLAGS, 0o666), "w", encoding="utf-8", newline="\n") as file:
            file.write(caption + "\n")
        yield temporary
    except OSError as error:
        _remove(temporary)
        raise _explained(error, path) from error
    _remove(temporary)


def settle() -> None:
    """Bring all that was written to the disk, once at the end of many: from here on it survives a power cut.

    Windows has no call for that; there the system writes it out in its own time, within some seconds.
    """
    if hasattr(os, "sync"):
        os.sync()


def clear_leftovers(paths: Iterable[str]) -> None:
    """Remove what a crash left of writing the captions at `paths`."""
    ours: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        folder, name = os.path.split(path)
        ours[folder].add(_digest(name))
    for folder, digests in ours.items():
        for name in names_in(folder):
            if (found := _LEFTOVER.fullmatch(name)) and found[1] in digests:
                _remove(os.path.join(folder, name))


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def temporary_name(name: str) -> str:
    """What the new content of the file `name` is called while it is written beside it."""
    return _TEMPORARY.format(digest=_digest(name), token=_TOKEN)


def is_leftover(name: str) -> bool:
    """Whether a file is, by its name, what a crash may leave of writing captions."""
    return _LEFTOVER.fullmatch(name) is not None


def _temporary(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, temporary_name(name))


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _explained(error: OSError, path: str) -> LorakeetError:
    name = to_wire(os.path.basename(path))
    if error.errno == _NO_SPACE:
        return DiskFull(f"The disk is full; {name} was not written.", where=to_wire(path))
    return FileUnwritable(f"{name} cannot be written: {os.strerror(error.errno or 0)}.", where=to_wire(path))
