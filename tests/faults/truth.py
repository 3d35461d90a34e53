"""What must be true of a data directory whatever was killed, read without the code of the studio."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

DATABASES: Final = ("control.db", "telemetry.db")
ALIVE: Final = ("starting", "running", "canceling")
ENDINGS: Final = {"tags": ".txt", "caption": ".caption"}

_LEFTOVER: Final = re.compile(r"\.lorakeet-[0-9a-f]{32}-[0-9a-f]{8}\.tmp")


@contextmanager
def opened(home: Path, name: str = "control.db") -> Iterator[sqlite3.Connection]:
    """A database of the studio, to be read."""
    with closing(sqlite3.connect(f"{(home / name).as_uri()}?mode=ro", uri=True, timeout=20)) as db:
        db.row_factory = sqlite3.Row
        yield db


def assert_whole(home: Path, datasets: Iterable[str]) -> None:
    """Everything below, of a data directory on which nothing runs."""
    assert_databases_whole(home)
    assert_journal_whole(home)
    for dataset in datasets:
        assert_files_say_the_same(home, dataset)


def assert_databases_whole(home: Path) -> None:
    """`PRAGMA integrity_check` of both."""
    for name in DATABASES:
        with opened(home, name) as db:
            assert [row[0] for row in db.execute("PRAGMA integrity_check")] == ["ok"], name
            assert not db.execute("PRAGMA foreign_key_check").fetchall(), name


def alive_of_older_boots(home: Path, boot_id: str) -> list[str]:
    """Jobs that seem to run, and were started by a studio that is no more."""
    with opened(home) as db:
        marks = ", ".join("?" * len(ALIVE))
        query = f"SELECT id, state, boot_id FROM jobs WHERE state IN ({marks}) AND boot_id IS NOT ?"
        return [f"{row['id']} {row['state']}" for row in db.execute(query, (*ALIVE, boot_id))]


def assert_journal_whole(home: Path) -> None:
    """Each change of a caption begins with what the one before left, and the last is what the caption is."""
    last: dict[tuple[str, str], str | None] = {}
    with opened(home) as db:
        for row in db.execute("SELECT * FROM journal ORDER BY number"):
            key = (row["image_id"], row["kind"])
            assert row["before"] == last.get(key), f"a gap in the history of {key}"
            assert row["before"] != row["after"], f"a change of {key} that is none"
            last[key] = row["after"]
        captions = {
            (row["image_id"], row["kind"]): row["text"] for row in db.execute("SELECT * FROM captions")
        }
        for key in last.keys() | captions.keys():
            assert captions.get(key) == last.get(key), key
        for row in db.execute(_COUNTS):
            assert row["changes"] == row["found"], f"the edit {row['id']} counts {row['changes']}"


_COUNTS: Final = """
    SELECT e.id, e.changes, (SELECT count(*) FROM journal j WHERE j.edit_id = e.id) AS found FROM edits e
"""


def assert_one_row_an_image(home: Path, job_id: str) -> None:
    """A tagging job has changed each caption once, whatever its number of attempts."""
    with opened(home) as db:
        doubled = db.execute(_DOUBLED, (job_id,)).fetchall()
    assert not doubled, [tuple(row) for row in doubled]


_DOUBLED: Final = """
    SELECT image_id, kind, count(*) FROM journal j JOIN edits e ON e.id = j.edit_id
    WHERE e.job_id = ? GROUP BY image_id, kind HAVING count(*) > 1
"""


def folder_of(home: Path, dataset_id: str) -> Path:
    """Where a dataset of the studio's own lies."""
    with opened(home) as db:
        row = db.execute("SELECT root, path FROM datasets WHERE id = ?", (dataset_id,)).fetchone()
    assert row["root"] == "datasets"
    return home / "datasets" / str(row["path"])


def unwritten(home: Path) -> int:
    """Captions whose file is still to follow."""
    with opened(home) as db:
        query = (
            "SELECT count(*) FROM captions c JOIN images i ON i.id = c.image_id"
            " WHERE c.projected <> c.version AND i.removed_ms IS NULL"
        )
        return int(db.execute(query).fetchone()[0])


def assert_files_say_the_same(home: Path, dataset_id: str) -> None:
    """The caption files of a dataset are what the journal says, to the byte, and there are no others."""
    folder = folder_of(home, dataset_id)
    with opened(home) as db:
        rows = db.execute(_CAPTIONS, (dataset_id,)).fetchall()
        images = {str(row["path"]) for row in db.execute(_IMAGES, (dataset_id,))}
    wanted = {
        str(Path(row["path"]).with_suffix(ENDINGS[row["kind"]])): str(row["text"]).encode() for row in rows
    }
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in ENDINGS.values()
    }
    assert found.keys() == wanted.keys()
    assert {name for name in wanted if found[name] != wanted[name]} == set()
    # What a kill leaves of writing a caption is known by its name, and goes with a later look at the folder.
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    others = {name for name in there - found.keys() if not _LEFTOVER.fullmatch(Path(name).name)}
    assert others - images == set(), f"files that nobody knows: {others - images}"
    assert images - others == set(), f"images without a file: {images - others}"


_CAPTIONS: Final = """
    SELECT i.path, c.kind, c.text FROM captions c JOIN images i ON i.id = c.image_id
    WHERE i.dataset_id = ? AND i.removed_ms IS NULL AND c.text IS NOT NULL
"""
_IMAGES: Final = "SELECT path FROM images WHERE dataset_id = ? AND removed_ms IS NULL"
