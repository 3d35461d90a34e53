"""A job as it is kept: one frozen row, read anew after every change."""

import sqlite3
from typing import Any

import msgspec

from orchestrator.jobs.states import Reason, State

#: Columns that are kept as JSON.
JSON_COLUMNS = ("settings", "source", "progress", "error", "outcome")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `settings` are whole and valid, as plain values; `source` is what the request said.

    `(boot_id, run_epoch)` names the last start of an attempt; `error` is a WireError, `outcome` what the
    work's `finish` returned, both as plain values.
    """

    id: str
    kind: str
    name: str
    state: State
    reason: Reason
    settings: dict[str, Any]
    source: dict[str, Any] | None
    output: str | None
    existing: str | None
    dataset_id: str | None
    parent_id: str | None
    priority: int
    position: float
    attempt: int
    boot_id: str | None
    run_epoch: int
    lane: str | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    outcome: Any
    created_ms: int
    changed_ms: int
    started_ms: int | None
    finished_ms: int | None


def job_of(row: sqlite3.Row) -> Job:
    """The job in a row of `jobs`."""
    values: dict[str, Any] = dict(row)
    for name in JSON_COLUMNS:
        if values[name] is not None:
            values[name] = msgspec.json.decode(values[name])
    return msgspec.convert(values, Job)
