"""The files that jobs made: what each is, how large, and its digest. The files lie where they were made."""

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from contract.errors import FileMissing, FileUnreadable, NotFound
from contract.notifications import Artifact
from contract.rules.paths import to_wire
from orchestrator.clock import now_ms
from orchestrator.jobs.table import Epoch, current


class KeptArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `path` is absolute, as paths travel; `sha256` is lower-case hex of the file's bytes."""

    number: int
    role: str
    path: str
    bytes: int
    sha256: str
    media_type: str
    created_ms: int


def keep(db: sqlite3.Connection, epoch: Epoch, artifact: Artifact) -> KeptArtifact:
    """Add a file to its job; one that was made again keeps its number. Raises Overtaken."""
    current(db, artifact.job_id, epoch)
    known = db.execute(_SAME, (artifact.job_id, artifact.path)).fetchone()
    number = known["number"] if known is not None else _next(db, artifact.job_id)
    kept = KeptArtifact(
        number=number,
        role=artifact.role,
        path=artifact.path,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
        created_ms=now_ms(),
    )
    db.execute(_PUT, msgspec.structs.asdict(kept) | {"job_id": artifact.job_id})
    return kept


def of_job(db: sqlite3.Connection, job_id: str) -> list[KeptArtifact]:
    """All of a job's files, by number."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM artifacts WHERE job_id = ? ORDER BY number", (job_id,))
    return [msgspec.convert(dict(row), KeptArtifact) for row in rows]


def get(db: sqlite3.Connection, job_id: str, number: int) -> KeptArtifact:
    """One of them. Raises NotFound."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM artifacts WHERE job_id = ? AND number = ?", (job_id, number)
    ).fetchone()
    if row is None:
        raise NotFound(f"The job has no artifact {number}.", where=job_id)
    return msgspec.convert(dict(row), KeptArtifact)


async def described(job_id: str, role: str, path: Path, media_type: str) -> Artifact:
    """A file that was made here, as kernels tell of theirs. Raises FileMissing and FileUnreadable."""
    size, digest = await anyio.to_thread.run_sync(_hashed, path)
    named = to_wire(str(path))
    return Artifact(job_id=job_id, role=role, path=named, bytes=size, sha256=digest, media_type=media_type)


_COLUMNS: Final = "number, role, path, bytes, sha256, media_type, created_ms"
_SAME: Final = "SELECT number FROM artifacts WHERE job_id = ? AND path = ?"
_PUT: Final = (
    f"INSERT OR REPLACE INTO artifacts (job_id, {_COLUMNS})"
    " VALUES (:job_id, :number, :role, :path, :bytes, :sha256, :media_type, :created_ms)"
)


def _next(db: sqlite3.Connection, job_id: str) -> int:
    row = db.execute("SELECT coalesce(max(number), 0) + 1 FROM artifacts WHERE job_id = ?", (job_id,))
    number: int = row.fetchone()[0]
    return number


def _hashed(path: Path) -> tuple[int, str]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except FileNotFoundError:
        raise FileMissing("The file is not there.", where=to_wire(str(path))) from None
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise FileUnreadable(f"The file cannot be read: {why}.", where=to_wire(str(path))) from None
