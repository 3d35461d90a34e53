"""Captions as they are kept: what the journal comes to, and what is known of the file that should say so.

`content` is what a file holds, to the byte; `text` is what people mean by it: no byte order mark, no blanks
around it.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from contract.errors import CaptionCollision, LorakeetError, WireError, from_wire
from orchestrator.datasets.images import CHUNK, chunks, colliding
from orchestrator.datasets.names import KINDS, CaptionKind

#: Bytes of a caption file. What is longer was written for something else.
MAX_BYTES: Final = 1024 * 1024


class Key(NamedTuple):
    """Which caption of which image."""

    image_id: str
    kind: CaptionKind


class Caption(NamedTuple):
    """A caption of an image of `path` and `stem`. Version 0: nothing was ever known of it.

    `projected` is the version that the file said when it had this digest, size and time of change; `problem`
    is what was wrong with the file then.
    """

    key: Key
    path: str
    stem: str
    content: str | None
    version: int
    projected: int
    file_sha256: str | None
    file_bytes: int | None
    file_mtime_ns: int | None
    problem: LorakeetError | None

    @property
    def text(self) -> str | None:
        """What it says; None where there is none."""
        return text_of(self.content)

    @property
    def is_written(self) -> bool:
        """Whether the file has been seen to say the same."""
        return self.projected == self.version


class FileState(NamedTuple):
    """A caption file as it was seen: what it then said (`version`), or what was wrong with it."""

    key: Key
    version: int
    sha256: str | None
    size: int | None
    mtime_ns: int | None
    problem: WireError | None = None


def text_of(content: str | None) -> str | None:
    """What a file with `content` says."""
    return None if content is None else content.removeprefix("\ufeff").strip()


def content_of(text: str | None) -> str | None:
    """What a file that says `text` should hold; None where there should be none."""
    return None if text is None else f"{text}\n"


def captions_of(
    db: sqlite3.Connection, ids: Sequence[str], kinds: Iterable[CaptionKind] = KINDS
) -> dict[Key, Caption]:
    """The captions of images that are there, also those of which nothing is known yet."""
    found = {}
    for kind in kinds:
        for some in chunks(ids):
            for row in db.execute(_SELECT.format(marks=",".join("?" * len(some))), (kind, *some)):
                caption = _caption(row, kind)
                found[caption.key] = caption
    return found


def unwritten(db: sqlite3.Connection, dataset_id: str, limit: int) -> list[str]:
    """Ids of images with a caption that is still to be written."""
    query = (
        "SELECT DISTINCT image_id FROM captions c JOIN images i ON i.id = c.image_id"
        " WHERE c.projected <> c.version AND i.dataset_id = ? AND i.removed_ms IS NULL LIMIT ?"
    )
    return [row["image_id"] for row in db.execute(query, (dataset_id, limit))]


def captioned(db: sqlite3.Connection, dataset_id: str, after: str, limit: int) -> list[str]:
    """Ids of images of which a caption is, or was, known."""
    query = (
        "SELECT id FROM images i WHERE dataset_id = ? AND removed_ms IS NULL AND id > ?"
        " AND EXISTS (SELECT 1 FROM captions WHERE image_id = i.id) ORDER BY id LIMIT ?"
    )
    return [row["id"] for row in db.execute(query, (dataset_id, after, limit))]


def record(db: sqlite3.Connection, states: Iterable[FileState]) -> None:
    """Keep how the files were seen. A caption that was changed meanwhile keeps waiting for its file."""
    db.executemany(_RECORD, [_state_row(state) for state in states])


def collisions(
    db: sqlite3.Connection, dataset_id: str, captions: Mapping[Key, Caption]
) -> dict[Key, CaptionCollision]:
    """Those among `captions` whose file would be that of another image, too (`a.jpg` and `a.png`)."""
    stems = sorted({caption.stem for caption in captions.values()})
    sharing = colliding(db, dataset_id, stems)
    return {
        key: _collision(caption.path, sharing[caption.stem])
        for key, caption in captions.items()
        if caption.stem in sharing
    }


def _collision(path: str, paths: Sequence[str]) -> CaptionCollision:
    names = ", ".join(each.rpartition("/")[2] for each in paths[:CHUNK])
    return CaptionCollision(
        f"{names} would share one caption file.", where=path, hint="Rename all but one of them."
    )


def _caption(row: sqlite3.Row, kind: CaptionKind) -> Caption:
    problem = row["problem"]
    return Caption(
        key=Key(row["id"], kind),
        path=row["path"],
        stem=row["stem"],
        content=row["text"],
        version=row["version"] or 0,
        projected=row["projected"] or 0,
        file_sha256=row["file_sha256"],
        file_bytes=row["file_bytes"],
        file_mtime_ns=row["file_mtime_ns"],
        problem=None if problem is None else from_wire(msgspec.json.decode(problem, type=WireError)),
    )


def _state_row(state: FileState) -> dict[str, Any]:
    problem = None if state.problem is None else msgspec.json.encode(state.problem)
    return {
        "image_id": state.key.image_id,
        "kind": state.key.kind,
        "version": state.version,
        "sha256": state.sha256,
        "size": state.size,
        "mtime_ns": state.mtime_ns,
        "problem": problem,
    }


_SELECT: Final = """
    SELECT i.id, i.path, i.stem, c.text, c.version, c.projected, c.file_sha256, c.file_bytes,
      c.file_mtime_ns, c.problem
    FROM images i LEFT JOIN captions c ON c.image_id = i.id AND c.kind = ?
    WHERE i.id IN ({marks}) AND i.removed_ms IS NULL
"""
_RECORD: Final = """
    INSERT INTO captions VALUES
      (:image_id, :kind, NULL, 0, 0, :sha256, :size, :mtime_ns, :problem)
    ON CONFLICT (image_id, kind) DO UPDATE SET projected = :version, file_sha256 = :sha256,
      file_bytes = :size, file_mtime_ns = :mtime_ns, problem = :problem
    WHERE captions.version >= :version
"""
