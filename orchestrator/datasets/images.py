"""Images as they are kept: what is known of the files of a dataset, looked up, listed and changed.

An image keeps its id as long as its path is the same. One that is gone stays, marked, where the journal
speaks of it, and is the same image when the file comes back.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from contract.errors import NotFound
from orchestrator.store.database import Database

#: Values in one list of a query; SQLite of any age takes so many.
CHUNK: Final = 500


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `path` and `stem` are as in `names`; `problem` is the WireError of what cannot be decoded."""

    id: str
    dataset_id: str
    path: str
    stem: str
    size_bytes: int
    mtime_ns: int
    sha256: str | None
    width: int | None
    height: int | None
    format: str | None
    problem: dict[str, Any] | None
    added_ms: int
    removed_ms: int | None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which images of a dataset: a part of the path, with or without a caption, with or without a problem."""

    q: str | None = None
    captioned: bool | None = None
    has_problem: bool | None = None


class Images:
    """The images of a studio, for readers."""

    def __init__(self, control: Database) -> None:
        self._control = control

    async def get(self, dataset_id: str, id: str) -> Image:
        """Raises NotFound."""
        found = await self._control.read(lambda db: find(db, dataset_id, id))
        if found is None:
            raise NotFound(f"There is no image {id} in this dataset.", where=id)
        return found

    async def page(self, dataset_id: str, wanted: Filter, after: str, limit: int) -> list[Image]:
        """By path, from after the path `after` on."""

        def read(db: sqlite3.Connection) -> list[Image]:
            where, values = _where(dataset_id, wanted)
            query = f"SELECT * FROM images i WHERE {where} AND path > ? ORDER BY path LIMIT ?"
            return [image_of(row) for row in db.execute(query, (*values, after, limit))]

        return await self._control.read(read)

    async def count(self, dataset_id: str, wanted: Filter) -> int:
        """How many there are."""

        def read(db: sqlite3.Connection) -> int:
            where, values = _where(dataset_id, wanted)
            return int(db.execute(f"SELECT count(*) FROM images i WHERE {where}", values).fetchone()[0])

        return await self._control.read(read)

    async def of_content(self, sha256: str) -> list[Image]:
        """Some that have this content."""
        query = "SELECT * FROM images WHERE sha256 = ? AND removed_ms IS NULL ORDER BY id LIMIT 5"
        rows = await self._control.read(lambda db: db.execute(query, (sha256,)).fetchall())
        return [image_of(row) for row in rows]

    async def scores(self, id: str) -> list[tuple[str, Any]]:
        """What taggers found in it: job ids and items, as a TaggedImage travels, the newest first."""
        query = "SELECT job_id, item FROM scores WHERE image_id = ? ORDER BY job_id DESC"
        rows = await self._control.read(lambda db: db.execute(query, (id,)).fetchall())
        return [(row["job_id"], msgspec.json.decode(row["item"])) for row in rows]


def find(db: sqlite3.Connection, dataset_id: str, id: str) -> Image | None:
    """The image of an id, unless it is gone."""
    row = db.execute(
        "SELECT * FROM images WHERE id = ? AND dataset_id = ? AND removed_ms IS NULL", (id, dataset_id)
    ).fetchone()
    return None if row is None else image_of(row)


def all_images(db: sqlite3.Connection, dataset_id: str) -> list[Image]:
    """Every image of a dataset by its path, those that are gone included."""
    query = "SELECT * FROM images WHERE dataset_id = ? ORDER BY path"
    return [image_of(row) for row in db.execute(query, (dataset_id,))]


def put(db: sqlite3.Connection, images: Iterable[Image]) -> None:
    """Keep what is now known of them. An image of a path that is known keeps its id and its age."""
    db.executemany(_PUT, [_row(image) for image in images])


def remove(db: sqlite3.Connection, ids: Sequence[str], now_ms: int) -> None:
    """Forget images; those of which the journal speaks are marked."""
    for some in chunks(ids):
        marks = _marks(some)
        db.execute(
            f"UPDATE images SET removed_ms = ? WHERE id IN ({marks}) AND removed_ms IS NULL"
            " AND EXISTS (SELECT 1 FROM journal WHERE image_id = images.id)",
            (now_ms, *some),
        )
        db.execute(f"DELETE FROM images WHERE id IN ({marks}) AND removed_ms IS NULL", some)


def colliding(db: sqlite3.Connection, dataset_id: str, stems: Sequence[str]) -> dict[str, list[str]]:
    """By stem, the paths of images that would share their caption files."""
    shared: list[str] = []
    for some in chunks(stems):
        rows = db.execute(_SHARED.format(marks=_marks(some)), (dataset_id, *some))
        shared += [row["stem"] for row in rows]
    found: dict[str, list[str]] = {}
    for some in chunks(shared):
        for row in db.execute(_SHARING.format(marks=_marks(some)), (dataset_id, *some)):
            found.setdefault(row["stem"], []).append(row["path"])
    return found


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """`values` in pieces that fit into a query."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def image_of(row: sqlite3.Row) -> Image:
    """The image in a row."""
    values = dict(row)
    values["problem"] = None if values["problem"] is None else msgspec.json.decode(values["problem"])
    return Image(**values)


def _row(image: Image) -> dict[str, Any]:
    row = msgspec.structs.asdict(image)
    return row | {"problem": None if image.problem is None else msgspec.json.encode(image.problem)}


def _where(dataset_id: str, wanted: Filter) -> tuple[str, list[Any]]:
    clauses, values = ["dataset_id = ?", "removed_ms IS NULL"], [dataset_id]
    if wanted.q:
        clauses.append("path LIKE ? ESCAPE '\\'")
        values.append(f"%{_literally(wanted.q)}%")
    for name, is_wanted in (("captioned", wanted.captioned), ("has_problem", wanted.has_problem)):
        if is_wanted is not None:
            clauses.append(_CLAUSES[name] if is_wanted else f"NOT ({_CLAUSES[name]})")
    return " AND ".join(clauses), values


def _literally(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


_CLAUSES: Final = {
    "captioned": "EXISTS (SELECT 1 FROM captions WHERE image_id = i.id AND text IS NOT NULL)",
    "has_problem": (
        "problem IS NOT NULL OR EXISTS"
        " (SELECT 1 FROM captions WHERE image_id = i.id AND captions.problem IS NOT NULL)"
    ),
}
_SHARED: Final = """
    SELECT stem FROM images WHERE dataset_id = ? AND stem IN ({marks}) AND removed_ms IS NULL
    GROUP BY stem HAVING count(*) > 1
"""
_SHARING: Final = """
    SELECT stem, path FROM images WHERE dataset_id = ? AND stem IN ({marks}) AND removed_ms IS NULL
    ORDER BY path
"""
_PUT: Final = """
    INSERT INTO images VALUES (:id, :dataset_id, :path, :stem, :size_bytes, :mtime_ns, :sha256, :width,
      :height, :format, :problem, :added_ms, :removed_ms)
    ON CONFLICT (dataset_id, path) DO UPDATE SET size_bytes = excluded.size_bytes,
      mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256, width = excluded.width,
      height = excluded.height, format = excluded.format, problem = excluded.problem,
      removed_ms = excluded.removed_ms
"""
