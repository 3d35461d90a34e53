"""Server-sent events as they come over a connection (WHATWG HTML, 9.2.6)."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec


class Event(NamedTuple):
    """One event. `id` is its number in the studio's log of events."""

    id: str
    name: str
    data: Any


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events in a stream of lines without their ends; comments and unfinished ones are left out."""
    fields: dict[str, str] = {}
    async for line in lines:
        if not line:
            if "data" in fields:
                yield Event(fields.get("id", ""), fields.get("event", ""), _decoded(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def _decoded(text: str) -> Any:
    # Every event of ours is JSON on one line.
    return msgspec.json.decode(text)
