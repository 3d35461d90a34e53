"""A disk whose power may go: what nobody had it bring to safety may be there, or not, or in part.

As on journaling file systems, names change in the order in which they were changed; some of the last changes
may be missing, but for those before the last `fsync` of a folder. What files hold is theirs alone: a file
that was never synced may be empty or full of zeros, and of one that was changed since, any page may be old.
"""

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.faults.supervisor import Change

_PAGE: Final = 4096
#: SQLite makes it anew.
_NEVER_KEPT: Final = "-shm"

#: By relative path the inode of the file that has this name; None for a folder.
Names = dict[str, int | None]


class Disk:
    """Told of every change below `home`, just before it happens. `image` is what a power cut leaves."""

    def __init__(self, home: Path) -> None:
        self._home = home
        #: A descriptor of every file by its inode, which so never stands for another file.
        self._held: dict[int, int] = {}
        self._synced: dict[int, bytes] = {}
        self._names: list[Names] = []
        self._sync_everything()

    def __call__(self, change: Change) -> None:
        match change.call.kind:
            case "sync" if os.path.isdir(change.path):
                self._names = [self._walk()]
            case "sync":
                self._sync(change.path)
            case "sync_all":
                self._sync_everything()
            case "create" | "make_folder" | "name" | "remove":
                self._names.append(self._walk())

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._held.values():
            os.close(descriptor)

    def image(self, target: Path, chance: random.Random) -> None:
        """Write into the new folder `target` what may be found after the power was cut now."""
        now = self._walk()
        paths = {file: path for path, file in now.items() if file is not None}
        target.mkdir()
        for path, file in sorted(chance.choice([*self._names, now]).items()):
            if file is None:
                (target / path).mkdir(exist_ok=True)
            elif not path.endswith(_NEVER_KEPT):
                there = (self._home / paths[file]).read_bytes() if file in paths else None
                (target / path).write_bytes(_left_of(self._synced.get(file), there, chance))

    def _sync(self, path: str) -> None:
        with open(path, "rb") as file:
            self._synced[os.fstat(file.fileno()).st_ino] = file.read()

    def _sync_everything(self) -> None:
        self._names = [self._walk()]
        for path, file in self._names[0].items():
            if file is not None:
                self._sync(str(self._home / path))

    def _walk(self) -> Names:
        return dict(self._entries(str(self._home), ""))

    def _entries(self, folder: str, prefix: str) -> Iterator[tuple[str, int | None]]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return
        for entry in entries:
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield path, None
                yield from self._entries(entry.path, f"{path}/")
            else:
                yield path, self._hold(entry)

    def _hold(self, entry: os.DirEntry[str]) -> int:
        """Its inode."""
        if entry.inode() not in self._held:
            with suppress(FileNotFoundError):
                descriptor = os.open(entry.path, os.O_PATH | os.O_NOFOLLOW)
                self._held[os.fstat(descriptor).st_ino] = descriptor
        return entry.inode()


def _left_of(synced: bytes | None, there: bytes | None, chance: random.Random) -> bytes:
    """Of a file that held `there`, and `synced` when it was last brought to the disk."""
    if there is None or synced == there:
        return synced or b""
    if synced is None:
        return chance.choice((b"", bytes(len(there)), there))
    size = chance.choice((len(synced), len(there)))
    pages = [_page(chance.choice((synced, there)), start) for start in range(0, size, _PAGE)]
    return b"".join(pages)[:size]


def _page(content: bytes, start: int) -> bytes:
    return content[start : start + _PAGE].ljust(_PAGE, b"\0")
