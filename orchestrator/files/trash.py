"""What was deleted and can be brought back: `trash/<ulid>/` with the thing and a record of its origin."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec

from contract.base import Reply
from contract.errors import NotFound, StateConflict
from contract.rules.paths import from_wire, to_wire
from orchestrator.clock import now_ms, rfc3339
from orchestrator.files import durable
from orchestrator.files.moving import move, size_of
from orchestrator.ids import new_ulid

FOLDER: Final = "trash"
_RECORD: Final = "record.json"
_CONTENT: Final = "content"
_PREFIX: Final = "trash_"

TrashId = Annotated[str, msgspec.Meta(pattern=r"^trash_[0-9A-Z]{26}\Z")]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where something was: `path` below `root`, for people. `at` and `root_folder` are absolute paths as they
    travel; `kind` is what it was."""

    kind: str
    name: str
    root: str
    path: str
    root_folder: str
    at: str


class Trashed(Reply, kw_only=True):
    """Something in the trash. `root` and `path` are where it was."""

    id: str
    kind: str
    name: str
    root: str
    path: str
    size_bytes: int
    deleted_at: str


class _Record(msgspec.Struct, kw_only=True):
    v: int = 1
    origin: Origin
    size_bytes: int
    deleted_ms: int


class Trash:
    """The trash of one data directory. Every call may copy gigabytes, so none is for the loop."""

    def __init__(self, home: Path) -> None:
        self._folder: Final = home / FOLDER
        self._busy: Final = threading.Lock()

    def put(self, origin: Origin) -> Trashed:
        """Take what is at `origin` away.

        Raises NotFound where there is nothing, StateConflict, DiskFull, FileUnwritable and FileUnreadable;
        then it is still there.
        """
        source = _path_of(origin)
        ulid = new_ulid()
        folder = self._folder / ulid
        with self._busy:
            try:
                record = _Record(origin=origin, size_bytes=size_of(source), deleted_ms=now_ms())
                (folder / _CONTENT).mkdir(parents=True)
            except FileNotFoundError:
                raise NotFound(f"{to_wire(str(source))} is not there any more.") from None
            except OSError as error:
                raise durable.unwritten(error, folder) from error
            try:
                # The record first: what is in the trash without one could not be brought back.
                durable.replace(folder / _RECORD, msgspec.json.encode(record))
                move(source, folder / _CONTENT / source.name)
            except BaseException:
                _discard(folder)
                raise
        return _shown(ulid, record)

    def list(self) -> list[Trashed]:
        """What is in the trash, the newest first."""
        return sorted((_shown(*each) for each in self._records()), key=lambda each: each.id, reverse=True)

    def restore(self, name: str, *, durably: bool = True) -> Trashed:
        """Bring something back to where it was; not `durably` where that undoes what nobody was told of.

        Raises NotFound, StateConflict where its place is taken or its root gone, DiskFull, FileUnwritable
        and FileUnreadable; then it is still in the trash.
        """
        with self._busy:
            ulid, record = self._record(name)
            content = self._content(ulid)
            target = _path_of(record.origin)
            if not os.path.isdir(from_wire(record.origin.root_folder)):
                raise StateConflict(
                    f"The folder {record.origin.root_folder} is gone.", where=record.origin.root_folder
                )
            # A crash may have ended the last attempt between its two names.
            if not (target.is_file() and content.is_file() and os.path.samefile(target, content)):
                _make_folder(target.parent)
                move(content, target, durably=durably)
            shutil.rmtree(self._folder / ulid, ignore_errors=True)
        return _shown(ulid, record)

    def delete(self, name: str) -> None:
        """Remove something for good. Raises NotFound and FileUnwritable."""
        with self._busy:
            ulid, _ = self._record(name)
            try:
                shutil.rmtree(self._folder / ulid)
            except OSError as error:
                raise durable.unwritten(error, self._folder / ulid) from error

    def _records(self) -> Iterator[tuple[str, _Record]]:
        try:
            ulids = os.listdir(self._folder)
        except OSError:
            return
        for ulid in ulids:
            try:
                yield self._record(_PREFIX + ulid)
            except NotFound:
                continue

    def _record(self, name: str) -> tuple[str, _Record]:
        """Where it is, and what was written about it. Raises NotFound."""
        ulid = name.removeprefix(_PREFIX)
        try:
            raw = (self._folder / ulid / _RECORD).read_bytes() if ulid.isalnum() else b""
            record = msgspec.json.decode(raw, type=_Record)
            self._content(ulid)
        except (OSError, msgspec.DecodeError, StopIteration):
            raise NotFound(f"There is no {name} in the trash.", where=name) from None
        return ulid, record

    def _content(self, ulid: str) -> Path:
        return next((self._folder / ulid / _CONTENT).iterdir())


def _discard(folder: Path) -> None:
    """Remove a place in the trash, unless something has come to lie in it after all."""
    with suppress(OSError):
        (folder / _CONTENT).rmdir()
        shutil.rmtree(folder)


def _path_of(origin: Origin) -> Path:
    return Path(from_wire(origin.at))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise durable.unwritten(error, folder) from error


def _shown(ulid: str, record: _Record) -> Trashed:
    origin = record.origin
    return Trashed(
        id=_PREFIX + ulid,
        kind=origin.kind,
        name=origin.name,
        root=origin.root,
        path=origin.path,
        size_bytes=record.size_bytes,
        deleted_at=rfc3339(record.deleted_ms),
    )
