"""The one stream of events."""

from collections.abc import Callable
from typing import Annotated

import msgspec

from contract.base import Strict
from contract.errors import InvalidParams
from orchestrator.api.calls import Call, StreamAnswer
from orchestrator.api.guard import visit_of
from orchestrator.api.registry import Routes
from orchestrator.events import EVERYBODY, topics_of

routes = Routes("events")

Topics = Annotated[
    str,
    msgspec.Meta(
        max_length=4096,
        description="Names with commas: `jobs`, `job:ID`, `queue`, `datasets`, `dataset:ID`, `models`, "
        "`settings`, `system`. Default: all but `system` and the details of single jobs.",
    ),
]
After = Annotated[
    int,
    msgspec.Meta(
        ge=0, le=2**63 - 1, description="Id of the last event seen; `Last-Event-ID` says the same and wins."
    ),
]
DEFAULT_TOPICS = "jobs,queue,datasets,models,settings,presets"


class EventsQuery(Strict, frozen=True, kw_only=True):
    """What to follow, and from where."""

    topics: Topics = DEFAULT_TOPICS
    after: After | None = None


@routes.get("/events", gives="text/event-stream")
async def follow_events(call: Call, query: EventsQuery) -> StreamAnswer:
    """Follow what happens.

    Server-sent events. Ids increase for ever: read a snapshot, whose `last_event_id` says how new it is, and
    follow from there; after a lost connection send `Last-Event-ID` and nothing is missing. An event `reset`
    means that something can no longer be told: read the snapshots again. Every event's data is an object with
    `at`, the time at which it happened. A comment comes at least every 15 seconds.
    """
    after = query.after
    if (last := call.request.headers.get("last-event-id")) is not None:
        if not (last.isascii() and last.isdigit() and len(last) < 20):
            raise InvalidParams("Last-Event-ID: not an id of ours.", where="Last-Event-ID")
        after = int(last)
    topics = {*topics_of(query.topics), *EVERYBODY}
    return StreamAnswer(chunks=call.studio.events.follow(topics, after, _is_welcome(call)))


def _is_welcome(call: Call) -> Callable[[], bool]:
    """Whether who asked would be let in again: a stream outlives the session that it began in."""
    site = call.studio.site
    if site is None:
        return lambda: True
    access, by = site.access, visit_of(call.request.scope).by
    return lambda: by is not None and access.holds(by)
