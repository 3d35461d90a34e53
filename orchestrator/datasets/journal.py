"""The journal: the truth about captions. Every change is a row with what was before and what is after.

What `captions` has is worked out of it in the same transaction; the files follow later. An edit is a number
of changes that belong together, and is undone as a whole, by another edit.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from orchestrator.clock import now_ms
from orchestrator.datasets.captions import Caption, Key, captions_of
from orchestrator.datasets.names import CaptionKind

#: `import` and `outside`: found in files, for the first time and later; `upload`: came with images.
Action = Literal["tagging", "edit", "revert", "import", "outside", "upload"]
Author = Literal["user", "job", "outside"]
#: Images of an undo that are named as examples of those that were left.
EXAMPLES: Final = 20


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `reverts` is the edit that it undoes; `kept` counts the captions that this left as they were.

    `number` is its place in the history, once it is written: ids are made before that.
    """

    id: str
    dataset_id: str
    action: Action
    author: Author
    job_id: str | None = None
    reverts: str | None = None
    changes: int = 0
    kept: int = 0
    created_ms: int = msgspec.field(default_factory=now_ms)
    number: int = 0


class Change(NamedTuple):
    """What a caption is to be; None for none."""

    key: Key
    content: str | None


class Entry(NamedTuple):
    """A row of the journal, with the path of its image where that is still known."""

    number: int
    image_id: str
    kind: CaptionKind
    path: str | None
    before: str | None
    after: str | None
    at_ms: int


class Reverted(NamedTuple):
    """What an undo came to: the captions it changed, and those it kept because they were changed since."""

    captions: list[Caption]
    kept: list[Key]


def apply(db: sqlite3.Connection, edit: Edit, changes: Sequence[Change]) -> list[Caption]:
    """Write the changes into the journal; the captions that are others now, whose files are to follow.

    The same edit may be added to. What is as it should be, or gone, is left out.
    """
    kinds = sorted({change.key.kind for change in changes})
    now = captions_of(db, list(dict.fromkeys(change.key.image_id for change in changes)), kinds)
    due = [change for change in changes if change.key in now and now[change.key].content != change.content]
    if due or edit.action == "revert":
        db.execute(_EDIT, msgspec.structs.asdict(msgspec.structs.replace(edit, changes=len(due))))
    at_ms = now_ms()
    db.executemany(_JOURNAL, [_entry_row(edit, change, now[change.key], at_ms) for change in due])
    db.executemany(_CAPTION, [(*change.key, change.content, now[change.key].version + 1) for change in due])
    return [
        now[change.key]._replace(content=change.content, version=now[change.key].version + 1)
        for change in due
    ]


def revert(db: sqlite3.Connection, edit: Edit, untouchable: Iterable[Key]) -> Reverted:
    """Undo the edit `edit.reverts` by `edit`, where its captions are still what it left.

    Those that are not, are gone, or are `untouchable` are kept as they are.
    """
    spans = _spans(db, edit.reverts or "")
    kinds = sorted({key.kind for key in spans})
    now = captions_of(db, list(dict.fromkeys(key.image_id for key in spans)), kinds)
    refused = set(untouchable)
    kept = [
        key
        for key, (_, after) in spans.items()
        if key not in now or key in refused or now[key].content != after
    ]
    left = set(kept)
    changes = [Change(key, before) for key, (before, _) in spans.items() if key not in left]
    changed = apply(db, msgspec.structs.replace(edit, kept=len(kept)), changes)
    return Reverted(changed, kept)


def keys_of(db: sqlite3.Connection, edit_id: str) -> list[Key]:
    """The captions that an edit changed."""
    return list(_spans(db, edit_id))


def find(db: sqlite3.Connection, dataset_id: str, id: str) -> Edit | None:
    """The edit of an id."""
    row = db.execute("SELECT * FROM edits WHERE id = ? AND dataset_id = ?", (id, dataset_id)).fetchone()
    return None if row is None else _edit(row)


def edits(db: sqlite3.Connection, dataset_id: str, before: int, limit: int) -> list[Edit]:
    """The edits of a dataset, the newest first, from before the number `before` on."""
    query = "SELECT * FROM edits WHERE dataset_id = ? AND number < ? ORDER BY number DESC LIMIT ?"
    return [_edit(row) for row in db.execute(query, (dataset_id, before, limit))]


def count_edits(db: sqlite3.Connection, dataset_id: str) -> int:
    """How many there are."""
    return int(db.execute("SELECT count(*) FROM edits WHERE dataset_id = ?", (dataset_id,)).fetchone()[0])


def entries(db: sqlite3.Connection, edit_id: str, after: int, limit: int) -> list[Entry]:
    """The changes of an edit in their order, from after the number `after` on."""
    return [Entry(*row) for row in db.execute(_ENTRIES, (edit_id, after, limit))]


def _spans(db: sqlite3.Connection, edit_id: str) -> dict[Key, tuple[str | None, str | None]]:
    """By caption, what was before an edit and what after it."""
    spans: dict[Key, tuple[str | None, str | None]] = {}
    query = "SELECT image_id, kind, before, after FROM journal WHERE edit_id = ? ORDER BY number"
    for image_id, kind, before, after in db.execute(query, (edit_id,)):
        key = Key(image_id, kind)
        first, _ = spans.get(key, (before, after))
        spans[key] = (first, after)
    return spans


def _entry_row(edit: Edit, change: Change, now: Caption, at_ms: int) -> tuple[Any, ...]:
    return (edit.id, edit.dataset_id, *change.key, now.content, change.content, at_ms)


def _edit(row: sqlite3.Row) -> Edit:
    return Edit(**dict(row))


_EDIT: Final = """
    INSERT INTO edits (id, dataset_id, action, author, job_id, reverts, changes, kept, created_ms) VALUES
      (:id, :dataset_id, :action, :author, :job_id, :reverts, :changes, :kept, :created_ms)
    ON CONFLICT (id) DO UPDATE SET changes = changes + excluded.changes
"""
_JOURNAL: Final = """
    INSERT INTO journal (edit_id, dataset_id, image_id, kind, before, after, at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_CAPTION: Final = """
    INSERT INTO captions (image_id, kind, text, version, projected) VALUES (?, ?, ?, ?, 0)
    ON CONFLICT (image_id, kind) DO UPDATE SET text = excluded.text, version = excluded.version
"""
_ENTRIES: Final = """
    SELECT j.number, j.image_id, j.kind, i.path, j.before, j.after, j.at_ms
    FROM journal j LEFT JOIN images i ON i.id = j.image_id
    WHERE j.edit_id = ? AND j.number > ? ORDER BY j.number LIMIT ?
"""
