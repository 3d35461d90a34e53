"""control.db: everything that was promised to somebody. A commit here survives a power cut.

Times are milliseconds since 1970 in UTC; JSON is kept as the bytes that were decoded and checked before.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from orchestrator.store.database import Database, open_database

FILE: Final = "control.db"

MIGRATIONS: Final = (
    """
    -- Facts of which there is one, such as whether the queue is paused.
    CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY) STRICT;

    -- Every start of a studio on this directory; what an older boot left running is running no more.
    CREATE TABLE boots (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      boot_id TEXT NOT NULL UNIQUE,
      started_ms INTEGER NOT NULL,
      ended_ms INTEGER
    ) STRICT;

    -- Kernels and workers, so that the next boot can end those that outlived their studio.
    CREATE TABLE processes (
      pid INTEGER NOT NULL,
      created REAL NOT NULL,
      machine TEXT NOT NULL,
      boot_id TEXT NOT NULL,
      role TEXT NOT NULL,
      PRIMARY KEY (pid, created, machine)
    ) STRICT;

    CREATE TABLE tokens (
      id TEXT PRIMARY KEY,
      hash BLOB NOT NULL UNIQUE,
      created_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE sessions (
      id TEXT PRIMARY KEY,
      hash BLOB NOT NULL UNIQUE,
      created_ms INTEGER NOT NULL,
      seen_ms INTEGER NOT NULL,
      expires_ms INTEGER NOT NULL,
      agent TEXT NOT NULL
    ) STRICT;

    -- `minted` is what the ids of the first try were made of, so that a second try makes nothing twice.
    CREATE TABLE idempotency (
      key TEXT PRIMARY KEY,
      request BLOB NOT NULL,
      minted TEXT NOT NULL,
      boot_id TEXT NOT NULL,
      created_ms INTEGER NOT NULL,
      status INTEGER,
      headers BLOB,
      body BLOB
    ) STRICT;

    CREATE TABLE presets (
      id TEXT PRIMARY KEY,
      kind TEXT NOT NULL,
      name TEXT NOT NULL,
      description TEXT NOT NULL,
      settings BLOB NOT NULL,
      version INTEGER NOT NULL,
      created_ms INTEGER NOT NULL,
      changed_ms INTEGER NOT NULL,
      UNIQUE (kind, name)
    ) STRICT;

    CREATE TABLE jobs (
      id TEXT PRIMARY KEY,
      kind TEXT NOT NULL,
      name TEXT NOT NULL,
      state TEXT NOT NULL,
      reason TEXT NOT NULL,
      settings BLOB NOT NULL,
      source BLOB,
      output TEXT,
      existing TEXT,
      dataset_id TEXT,
      parent_id TEXT,
      priority INTEGER NOT NULL,
      position REAL NOT NULL,
      attempt INTEGER NOT NULL,
      boot_id TEXT,
      run_epoch INTEGER NOT NULL DEFAULT 0,
      lane TEXT,
      progress BLOB,
      error BLOB,
      outcome BLOB,
      created_ms INTEGER NOT NULL,
      changed_ms INTEGER NOT NULL,
      started_ms INTEGER,
      finished_ms INTEGER
    ) STRICT;
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE INDEX jobs_waiting ON jobs (priority DESC, position, id) WHERE state = 'queued';
    CREATE INDEX jobs_waiting_by_kind ON jobs (kind, priority DESC, position, id) WHERE state = 'queued';
    CREATE INDEX jobs_retried ON jobs (changed_ms) WHERE state = 'queued' AND reason = 'retried';
    CREATE INDEX jobs_by_dataset ON jobs (dataset_id);
    CREATE INDEX jobs_by_output ON jobs (output COLLATE NOCASE);
    CREATE INDEX jobs_by_change ON jobs (changed_ms);

    CREATE TABLE transitions (
      job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
      number INTEGER NOT NULL,
      at_ms INTEGER NOT NULL,
      before TEXT,
      after TEXT NOT NULL,
      reason TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      lane TEXT,
      error BLOB,
      boot_id TEXT NOT NULL,
      PRIMARY KEY (job_id, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE artifacts (
      job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
      number INTEGER NOT NULL,
      role TEXT NOT NULL,
      path TEXT NOT NULL,
      bytes INTEGER NOT NULL,
      sha256 TEXT NOT NULL,
      media_type TEXT NOT NULL,
      created_ms INTEGER NOT NULL,
      PRIMARY KEY (job_id, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE datasets (
      id TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      root TEXT NOT NULL,
      path TEXT NOT NULL,
      managed INTEGER NOT NULL,
      version INTEGER NOT NULL,
      created_ms INTEGER NOT NULL,
      changed_ms INTEGER NOT NULL,
      UNIQUE (root, path)
    ) STRICT;

    -- `path` is relative to the dataset's folder, with slashes; `stem` is what its caption files are called,
    -- so images of one stem would share them. What is gone, but was captioned, is kept with `removed_ms`.
    CREATE TABLE images (
      id TEXT PRIMARY KEY,
      dataset_id TEXT NOT NULL REFERENCES datasets ON DELETE CASCADE,
      path TEXT NOT NULL,
      stem TEXT NOT NULL,
      size_bytes INTEGER NOT NULL,
      mtime_ns INTEGER NOT NULL,
      sha256 TEXT,
      width INTEGER,
      height INTEGER,
      format TEXT,
      problem BLOB,
      added_ms INTEGER NOT NULL,
      removed_ms INTEGER,
      UNIQUE (dataset_id, path)
    ) STRICT;
    CREATE INDEX images_by_hash ON images (sha256);
    CREATE INDEX images_by_stem ON images (dataset_id, stem, removed_ms);

    -- One change of any number of captions, made and undone as a whole. `kept`: those that an undo left.
    CREATE TABLE edits (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      dataset_id TEXT NOT NULL REFERENCES datasets ON DELETE CASCADE,
      action TEXT NOT NULL,
      author TEXT NOT NULL,
      job_id TEXT,
      reverts TEXT,
      changes INTEGER NOT NULL,
      kept INTEGER NOT NULL,
      created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX edits_by_dataset ON edits (dataset_id, number);

    -- The truth about captions: a row for every change, with what the file held and is to hold, to the byte.
    -- NULL means that there was, or is, no caption.
    CREATE TABLE journal (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      edit_id TEXT NOT NULL REFERENCES edits (id) ON DELETE CASCADE,
      dataset_id TEXT NOT NULL,
      image_id TEXT NOT NULL,
      kind TEXT NOT NULL,
      before TEXT,
      after TEXT,
      at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX journal_by_edit ON journal (edit_id, number);
    CREATE INDEX journal_by_image ON journal (image_id, kind, number);

    -- What the journal comes to, and the file as it was when it last said so: its digest, size and time.
    -- `projected` is the version that it says; where that is not `version`, it is still to be written.
    CREATE TABLE captions (
      image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
      kind TEXT NOT NULL,
      text TEXT,
      version INTEGER NOT NULL,
      projected INTEGER NOT NULL,
      file_sha256 TEXT,
      file_bytes INTEGER,
      file_mtime_ns INTEGER,
      problem BLOB,
      PRIMARY KEY (image_id, kind)
    ) STRICT;
    CREATE INDEX captions_to_write ON captions (image_id) WHERE projected <> version;

    -- What taggers found, so that other thresholds need no model later.
    CREATE TABLE scores (
      job_id TEXT NOT NULL,
      image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
      item BLOB NOT NULL,
      PRIMARY KEY (job_id, image_id)
    ) STRICT;
    CREATE INDEX scores_by_image ON scores (image_id);
    """,
    """
    -- Which of several of its role a file is, such as the step of a checkpoint: names → whole numbers.
    ALTER TABLE artifacts ADD COLUMN labels BLOB NOT NULL DEFAULT x'7B7D';
    """,
)


def open_control(home: Path) -> AbstractAsyncContextManager[Database]:
    """The control database of a data directory. Raises StoreTooNew, StoreDamaged and DiskFull."""
    return open_database(home / FILE, MIGRATIONS, "FULL")
