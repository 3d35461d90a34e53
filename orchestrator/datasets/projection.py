"""Caption files, written after the journal: each whole or not at all, never over what somebody else wrote.

A bulk edit is brought to the disk once, at its end; until then, and wherever a write fails, the journal knows
that the file is behind. Blocks.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from contract.errors import DiskFull, FileMissing, LorakeetError
from contract.rules.paths import to_wire
from orchestrator.datasets.captions import Caption, FileState
from orchestrator.datasets.look import Stamp, digest, stamp_of
from orchestrator.datasets.names import caption_parts
from orchestrator.datasets.place import Place
from orchestrator.files import caption_files
from orchestrator.files.beneath import CREATE, Folder, Linked
from orchestrator.files.durable import unwritten

#: Up to so many files are synced one by one; more of them all together.
_FEW: Final = 8


class Due(NamedTuple):
    """A caption whose file is to follow, and the stamp of the file that may be replaced; None for no file."""

    caption: Caption
    stamp: Stamp | None


class Projected(NamedTuple):
    """The files that are written, and why others are not; what somebody else changed is in neither."""

    written: list[tuple[FileState, Stamp | None]]
    failed: list[tuple[Caption, LorakeetError]]


def project(place: Place, due: Iterable[Due]) -> Projected:
    """Write the files. After a full disk the rest is not tried."""
    waiting = list(due)
    done = Projected([], [])
    writer = _Writer(synced=len(waiting) <= _FEW)
    for parts, some in _by_folder(waiting).items():
        _in_folder(place, parts, some, writer, done)
    if done.written and not writer.synced:
        caption_files.settle()
    return done


def _by_folder(due: Iterable[Due]) -> dict[tuple[str, ...], list[Due]]:
    folders: dict[tuple[str, ...], list[Due]] = {}
    for each in due:
        parts = caption_parts(each.caption.path, each.caption.key.kind)
        folders.setdefault(tuple(parts[:-1]), []).append(each)
    return folders


def _in_folder(
    place: Place, parts: tuple[str, ...], due: list[Due], writer: "_Writer", done: Projected
) -> None:
    try:
        with place.opened(parts) as folder:
            for each in due:
                writer.write(folder, each, done)
            if writer.synced:
                folder.sync()
    except OSError as error:
        known = {state.key for state, _ in done.written} | {caption.key for caption, _ in done.failed}
        failure = _explained(error, str(place.folder.joinpath(*parts)))
        done.failed.extend((each.caption, failure) for each in due if each.caption.key not in known)


class _Writer:
    def __init__(self, *, synced: bool) -> None:
        self.synced = synced
        self._full: LorakeetError | None = None

    def write(self, folder: Folder, due: Due, done: Projected) -> None:
        """Bring one file in line, unless somebody else has changed it meanwhile."""
        name = caption_parts(due.caption.path, due.caption.key.kind)[-1]
        if self._full is not None:
            done.failed.append((due.caption, self._full))
            return
        try:
            if _stamp(folder, name) == due.stamp:
                stamp = self._put(folder, name, due)
                done.written.append((_state(due.caption, stamp), stamp))
        except FileExistsError:
            return
        except OSError as error:
            failure = _explained(error, os.path.join(folder.path, name))
            self._full = failure if isinstance(failure, DiskFull) else None
            done.failed.append((due.caption, failure))

    def _put(self, folder: Folder, name: str, due: Due) -> Stamp | None:
        """The stamp of the new file. Raises FileExistsError where somebody was quicker."""
        if due.caption.content is None:
            if due.stamp is not None:
                folder.unlink(name)
            return None
        temporary = caption_files.temporary_name(name)
        stamp = self._create(folder, temporary, due.caption.content)
        try:
            if due.stamp is not None:
                folder.replace(temporary, name)
            elif not folder.rename_new(temporary, name):
                raise FileExistsError(name)
        except OSError:
            folder.unlink(temporary)
            raise
        return stamp

    def _create(self, folder: Folder, name: str, content: str) -> Stamp:
        try:
            with open(_created(folder, name), "wb") as file:
                file.write(content.encode())
                file.flush()
                if self.synced:
                    os.fsync(file.fileno())
                # Here and not after the renaming: from then on it may be somebody else's.
                return stamp_of(os.fstat(file.fileno()))
        except OSError:
            with suppress(OSError):
                folder.unlink(name)
            raise


def _created(folder: Folder, name: str) -> int:
    try:
        return folder.open(name, CREATE)
    except FileExistsError:
        # Of a crash: the name is this process's own.
        folder.unlink(name)
        return folder.open(name, CREATE)


def _stamp(folder: Folder, name: str) -> Stamp | None:
    try:
        return stamp_of(folder.stat(name))
    except FileNotFoundError:
        return None


def _state(caption: Caption, stamp: Stamp | None) -> FileState:
    return FileState(
        key=caption.key,
        version=caption.version,
        sha256=digest(caption.content),
        size=None if stamp is None else stamp.size,
        mtime_ns=None if stamp is None else stamp.mtime_ns,
    )


def _explained(error: OSError, path: str) -> LorakeetError:
    if isinstance(error, FileNotFoundError | NotADirectoryError | Linked):
        return FileMissing("The folder of the caption is not there.", where=to_wire(path))
    return unwritten(error, Path(path))
