"""What waits in the queue and may start: of each kind no more than could, as a queue may be long."""

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from orchestrator.clock import now_ms
from orchestrator.jobs.chooser import Waiting
from orchestrator.jobs.kinds import Kind

#: Seconds before the first attempt that nobody asked for, and twice as long before each later one.
RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0


class Due(NamedTuple):
    """Jobs in the order of the queue, and the seconds until one more may start; None where none is held."""

    waiting: list[Waiting]
    later_s: float | None


def due(db: sqlite3.Connection, kinds: Iterable[Kind], count: int) -> Due:
    """The first `count` of each of `kinds` that may start now."""
    moment = {"now": now_ms(), "retry": round(RETRY_S * 1000), "longest": round(LONGEST_RETRY_S * 1000)}
    found: list[tuple[tuple[int, float, str], Waiting]] = []
    for kind in kinds:
        for row in db.execute(_FIRST, moment | {"kind": kind.name, "count": count}):
            place = (-row["priority"], row["position"], row["id"])
            found.append((place, Waiting(row["id"], kind.lane, kind.prefers_device)))
    held = db.execute(_HELD, moment).fetchone()[0]
    later_s = None if held is None else max(0, held - moment["now"]) / 1000
    return Due([waiting for _, waiting in sorted(found)], later_s)


#: When a job that is tried again by itself may start, in milliseconds since 1970.
_MAY_START: Final = "changed_ms + min(:longest, :retry << min(attempt - 2, 20))"
#: A clock that was set back makes nothing wait.
_IS_HELD: Final = f"reason = 'retried' AND changed_ms <= :now AND {_MAY_START} > :now"
_FIRST: Final = (
    f"SELECT id, priority, position FROM jobs WHERE state = 'queued' AND kind = :kind AND NOT ({_IS_HELD})"
    " ORDER BY priority DESC, position, id LIMIT :count"
)
_HELD: Final = (
    f"SELECT min({_MAY_START}) FROM jobs INDEXED BY jobs_retried WHERE state = 'queued' AND {_IS_HELD}"
)
