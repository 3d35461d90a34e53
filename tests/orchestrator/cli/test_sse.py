"""Events out of lines."""

from collections.abc import AsyncIterator

import pytest

from orchestrator.cli.sse import Event, events


@pytest.mark.anyio
async def test_events_come_out_and_comments_and_unfinished_ones_do_not() -> None:
    async def lines() -> AsyncIterator[str]:
        first = 'id: 7\nevent: job.log\ndata: {"a":": b"}'
        text = f"retry: 1000\n\n: beat\n\n{first}\n\nid:8\ndata:1\n\nid: 9\ndata: 2"
        for line in text.split("\n"):
            yield line

    assert [each async for each in events(lines())] == [
        Event("7", "job.log", {"a": ": b"}),
        Event("8", "", 1),
    ]
