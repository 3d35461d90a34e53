"""Times as they are kept, milliseconds since 1970 in UTC, and as they travel, RFC 3339."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """This moment."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """Such as `2026-11-20T13:36:29.250Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_rfc3339(ms: int | None) -> str | None:
    """The same, where there was such a moment."""
    return None if ms is None else rfc3339(ms)
