"""The files that jobs made: what each is, how large, and its digest. The files lie where they were made.

Some give way to newer ones while their job runs: such a one is no more listed once its file is gone.
"""

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from contract.base import Reply
from contract.errors import FileMissing, FileUnreadable, NotFound
from contract.notifications import Artifact
from contract.rules.paths import from_wire, to_wire
from orchestrator.clock import now_ms, rfc3339
from orchestrator.jobs.table import Epoch, current

#: Roles of files that a training removes by itself when it has newer ones. A merge has a `checkpoint`, too: a
#: model, without the step that those of trainings have among their labels.
_PASSING: Final = frozenset({"checkpoint", "lora_step"})


class KeptArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `path` is absolute, as paths travel; `sha256` is lower-case hex of the file's bytes. `labels`
    say which of several of its role it is."""

    number: int
    role: str
    path: str
    bytes: int
    sha256: str
    media_type: str
    labels: dict[str, int]
    created_ms: int

    @property
    def is_there(self) -> bool:
        """Unless it has given way to a newer one."""
        may_go = self.role in _PASSING and "step" in self.labels
        return not may_go or os.path.lexists(from_wire(self.path))

    @property
    def is_state(self) -> bool:
        """Whether a training can go on from it: then it is the manifest in a folder."""
        return self.role == "checkpoint" and "step" in self.labels


class JobArtifact(Reply, kw_only=True):
    """A file that the job made; `sha256` is lower-case hex of its bytes. `labels` say which of several of its
    role it is: the `checkpoint` and `lora_step` of a training have `step` and `epoch`, a `sample` has `step`
    and `prompt_index` from 0. The file of such a checkpoint, which is a folder, is its manifest."""

    number: int
    role: str
    name: str
    size_bytes: int
    sha256: str
    media_type: str
    labels: dict[str, int]
    created_at: str


def keep(db: sqlite3.Connection, epoch: Epoch, artifact: Artifact) -> KeptArtifact:
    """Add a file to its job; one that was made again keeps its number. Raises Overtaken."""
    current(db, artifact.job_id, epoch)
    _forget_gone(db, artifact.job_id, artifact.role)
    known = db.execute(_SAME, (artifact.job_id, artifact.path)).fetchone()
    number = known["number"] if known is not None else _next(db, artifact.job_id)
    kept = KeptArtifact(
        number=number,
        role=artifact.role,
        path=artifact.path,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
        labels=artifact.labels,
        created_ms=now_ms(),
    )
    row = msgspec.structs.asdict(kept) | {"job_id": artifact.job_id, "labels": _encode(artifact.labels)}
    db.execute(_PUT, row)
    return kept


def of_job(db: sqlite3.Connection, job_id: str) -> list[KeptArtifact]:
    """All of a job's files that have not given way to newer ones, by number."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM artifacts WHERE job_id = ? ORDER BY number", (job_id,))
    return [each for each in map(_artifact, rows) if each.is_there]


def get(db: sqlite3.Connection, job_id: str, number: int) -> KeptArtifact:
    """One of them. Raises NotFound."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM artifacts WHERE job_id = ? AND number = ?", (job_id, number)
    ).fetchone()
    if row is None:
        raise NotFound(f"The job has no artifact {number}.", where=job_id)
    return _artifact(row)


def artifact_of(artifact: KeptArtifact) -> JobArtifact:
    """A file as clients see it, without where it lies."""
    return JobArtifact(
        number=artifact.number,
        role=artifact.role,
        name=_name(artifact).encode("utf-8", "replace").decode(),
        size_bytes=artifact.bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
        labels=artifact.labels,
        created_at=rfc3339(artifact.created_ms),
    )


async def described(job_id: str, role: str, path: Path, media_type: str) -> Artifact:
    """A file that was made here, as kernels tell of theirs. Raises FileMissing and FileUnreadable."""
    size, digest = await anyio.to_thread.run_sync(_hashed, path)
    named = to_wire(str(path))
    return Artifact(job_id=job_id, role=role, path=named, bytes=size, sha256=digest, media_type=media_type)


_encode = msgspec.json.Encoder().encode
_COLUMNS: Final = "number, role, path, bytes, sha256, media_type, labels, created_ms"
_SAME: Final = "SELECT number FROM artifacts WHERE job_id = ? AND path = ?"
_PUT: Final = (
    f"INSERT OR REPLACE INTO artifacts (job_id, {_COLUMNS})"
    " VALUES (:job_id, :number, :role, :path, :bytes, :sha256, :media_type, :labels, :created_ms)"
)


def _name(artifact: KeptArtifact) -> str:
    """A state of a training is called after its folder."""
    parts = from_wire(artifact.path).replace("\\", "/").split("/")
    return parts[-2 if artifact.is_state and len(parts) > 1 else -1]


def _artifact(row: sqlite3.Row) -> KeptArtifact:
    return msgspec.convert(dict(row) | {"labels": msgspec.json.decode(row["labels"])}, KeptArtifact)


def _forget_gone(db: sqlite3.Connection, job_id: str, role: str) -> None:
    """A run of days makes thousands of checkpoints, of which a few are there. The last number stays, so that
    none is given twice."""
    if role in _PASSING:
        rows = db.execute(f"SELECT {_COLUMNS} FROM artifacts WHERE job_id = ? AND role = ?", (job_id, role))
        last = _next(db, job_id) - 1
        gone = [each.number for each in map(_artifact, rows.fetchall()) if not each.is_there]
        numbers = [(job_id, number) for number in gone if number != last]
        db.executemany("DELETE FROM artifacts WHERE job_id = ? AND number = ?", numbers)


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
