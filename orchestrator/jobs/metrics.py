"""What jobs measure: values by key and step, kept in telemetry.db, shown as few points as a chart needs."""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from orchestrator.store.database import Database


class Point(NamedTuple):
    """A value at a step."""

    step: int
    value: float


class Sample(NamedTuple):
    """What was measured at one step, at a time in milliseconds since 1970."""

    step: int
    at_ms: int
    values: Mapping[str, float]


async def keep(telemetry: Database, job_id: str, samples: Sequence[Sample]) -> None:
    """Add samples; a step that comes again, after a resume, replaces what it said before.

    Raises DiskFull and StoreDamaged.
    """
    rows = [
        (job_id, key, sample.step, value, sample.at_ms)
        for sample in samples
        for key, value in sample.values.items()
        # What JSON cannot say, no chart can show.
        if math.isfinite(value)
    ]
    await telemetry.write(lambda db: db.executemany(_INSERT, rows) and None)


async def series(
    telemetry: Database, job_id: str, keys: Sequence[str] | None, from_step: int, max_points: int
) -> dict[str, list[Point]]:
    """The values of each key from a step on, by step; `keys` None means all. Raises StoreDamaged."""

    def read(db: sqlite3.Connection) -> dict[str, list[Point]]:
        there = [row["key"] for row in db.execute(_KEYS, (job_id,))]
        wanted = [key for key in there if keys is None or key in keys]
        return {key: _points(db, job_id, key, from_step, max_points) for key in wanted}

    return await telemetry.read(read)


async def steps(telemetry: Database, job_id: str, key: str) -> set[int]:
    """The steps at which a key was measured. Raises StoreDamaged."""

    def read(db: sqlite3.Connection) -> set[int]:
        return {row["step"] for row in db.execute(_STEPS, (job_id, key))}

    return await telemetry.read(read)


async def forget_after(telemetry: Database, job_id: str, step: int) -> None:
    """Drop what a job has measured after a step: it went back to it, and came no further. Raises DiskFull and
    StoreDamaged."""
    values = (job_id, step)
    await telemetry.write(lambda db: db.execute(_FORGET_AFTER, values) and None)


async def forget(telemetry: Database, job_id: str) -> None:
    """Drop everything of a job. Raises DiskFull and StoreDamaged."""
    await telemetry.write(lambda db: db.execute("DELETE FROM metrics WHERE job_id = ?", (job_id,)) and None)


def downsampled(points: Sequence[Point], max_points: int) -> list[Point]:
    """At most `max_points` of `points`, among them the first, the last, and every stretch's extremes.

    The points are cut into stretches of equal length, and of each the smallest and the largest value stay.
    `max_points` is at least 4.
    """
    if len(points) <= max_points:
        return list(points)
    inner = points[1:-1]
    stretches = (max_points - 2) // 2
    kept = [points[0]]
    for number in range(stretches):
        stretch = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        low = min(stretch, key=_value)
        high = max(stretch, key=_value)
        kept += sorted({low, high})
    return [*kept, points[-1]]


def _value(point: Point) -> float:
    return point.value


_INSERT: Final = "INSERT OR REPLACE INTO metrics (job_id, key, step, value, at_ms) VALUES (?, ?, ?, ?, ?)"
_STEPS: Final = "SELECT step FROM metrics WHERE job_id = ? AND key = ?"
_FORGET_AFTER: Final = "DELETE FROM metrics WHERE job_id = ? AND step > ?"
_KEYS: Final = "SELECT DISTINCT key FROM metrics WHERE job_id = ? ORDER BY key"
_SELECT: Final = "SELECT step, value FROM metrics WHERE job_id = ? AND key = ? AND step >= ? ORDER BY step"


def _points(db: sqlite3.Connection, job_id: str, key: str, from_step: int, max_points: int) -> list[Point]:
    rows = db.execute(_SELECT, (job_id, key, from_step))
    return downsampled([Point(row["step"], row["value"]) for row in rows], max_points)
