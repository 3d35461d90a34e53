"""The stream: no gap and no double across readers, restarts and reconnections; slow readers are told."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from orchestrator import events as module
from orchestrator.events import BEAT, HELLO, RING, EventLog, open_events
from orchestrator.store.telemetry import open_telemetry

pytestmark = pytest.mark.anyio


class Seen(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


def parsed(chunk: bytes) -> list[Seen]:
    found = []
    for block in chunk.decode().split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.splitlines())
        if "id" in lines:
            found.append(Seen(int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


async def take(stream: AsyncGenerator[bytes], count: int) -> list[Seen]:
    found: list[Seen] = []
    with anyio.fail_after(20):
        while len(found) < count:
            found += parsed(await anext(stream))
    return found


class Boots:
    """Boots of one data directory, one after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.number = 0

    async def boot(self, stack: AsyncExitStack, kept: int = 100_000) -> EventLog:
        self.number += 1
        telemetry = await stack.enter_async_context(open_telemetry(self.home))
        return await stack.enter_async_context(open_events(telemetry, self.number, kept))


@pytest.fixture
def boots(tmp_path: Path) -> Boots:
    return Boots(tmp_path)


def publish(events: EventLog, numbers: range, topic: str = "jobs") -> None:
    for number in numbers:
        events.publish((topic, f"job:{number}"), "job.changed", {"n": number})


async def test_a_reader_gets_what_it_follows_in_order(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        async with aclosing(events.follow(["jobs"])) as stream:
            assert await anext(stream) == HELLO
            publish(events, range(5))
            publish(events, range(3), topic="models")
            publish(events, range(5, 8))
            found = await take(stream, 8)
        assert [each.data["n"] for each in found] == list(range(8))
        assert all("at" in each.data for each in found)
        assert [each.id for each in found] == sorted({each.id for each in found})


async def test_a_snapshot_and_what_follows_have_no_gap(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(10))
        await events.flush()
        place = events.last_id
        publish(events, range(10, 15))
        await events.flush()
        async with aclosing(events.follow(["jobs"], after=place)) as stream:
            await anext(stream)
            assert [each.data["n"] for each in await take(stream, 5)] == list(range(10, 15))


async def test_a_reader_comes_back_after_a_restart_and_misses_nothing(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(4))
        async with aclosing(events.follow(["jobs"], after=0)) as stream:
            await anext(stream)
            last = (await take(stream, 2))[1].id
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(4, 6))
        async with aclosing(events.follow(["jobs"], after=last)) as stream:
            await anext(stream)
            found = await take(stream, 4)
        assert [each.data["n"] for each in found] == [2, 3, 4, 5]


async def test_more_than_a_page_from_the_disk_arrives_whole(boots: Boots) -> None:
    count = module.PAGE * 2 + 17
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        start = events.last_id
        publish(events, range(count))
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(count, count + 3))
        async with aclosing(events.follow(["jobs"], after=start)) as stream:
            await anext(stream)
            found = await take(stream, count + 3)
        assert [each.data["n"] for each in found] == list(range(count + 3))


async def test_an_id_is_never_given_twice_even_where_events_were_lost(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(3))
        await events.flush()
        first = events.last_id
    (boots.home / "telemetry.db").unlink()
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        assert events.last_id > first
        async with aclosing(events.follow(["jobs"], after=first)) as stream:
            await anext(stream)
            assert [each.name for each in await take(stream, 1)] == ["reset"]


async def test_what_was_pruned_is_told_by_a_reset(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(5))
        await events.flush()
        place = events.last_id - 2
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack, kept=10)
        publish(events, range(module._PRUNE_EVERY + 1))
        await events.flush()
        with anyio.fail_after(10):
            while events._oldest_kept <= place:
                publish(events, range(1))
                await events.flush()
        async with aclosing(events.follow(["jobs"], after=place)) as stream:
            await anext(stream)
            assert (await take(stream, 1))[0].name == "reset"


async def test_a_reader_who_falls_far_behind_reads_it_from_the_disk(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        async with aclosing(events.follow(["jobs"])) as stream:
            await anext(stream)
            publish(events, range(RING + 100))
            await events.flush()
            found = await take(stream, RING + 100)
        assert [each.data["n"] for each in found] == list(range(RING + 100))


async def test_an_id_from_the_future_is_reset(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        async with aclosing(events.follow(["jobs"], after=events.last_id + 5)) as stream:
            await anext(stream)
            assert (await take(stream, 1))[0].name == "reset"
            publish(events, range(1))
            assert (await take(stream, 1))[0].name == "job.changed"


async def test_a_quiet_stream_has_a_heartbeat(boots: Boots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        async with aclosing(events.follow(["jobs"])) as stream:
            await anext(stream)
            with anyio.fail_after(10):
                assert await anext(stream) == BEAT


async def test_a_full_disk_keeps_nobody_from_watching(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        telemetry = events._telemetry
        pages = await telemetry.write(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await telemetry.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        async with aclosing(events.follow(["jobs"])) as stream:
            await anext(stream)
            events.publish(("jobs",), "job.changed", {"n": 1, "text": "x" * 100_000})
            assert (await take(stream, 1))[0].data["n"] == 1
        assert events.unkept == 1


async def test_events_that_are_not_kept_are_only_for_those_who_watch(boots: Boots) -> None:
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        async with aclosing(events.follow(["system"])) as stream:
            await anext(stream)
            events.publish(("system",), "system.sampled", {"load": 1}, kept=False)
            assert (await take(stream, 1))[0].name == "system.sampled"
        assert await events._telemetry.read(lambda db: db.execute("SELECT * FROM events").fetchall()) == []


async def test_the_end_of_the_studio_ends_every_stream(boots: Boots) -> None:
    ended: list[int] = []

    async def read(events: EventLog, started: anyio.Event) -> None:
        async for chunk in events.follow(["jobs"]):
            if chunk == HELLO:
                started.set()
        ended.append(1)

    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        async with anyio.create_task_group() as tasks:
            started = anyio.Event()
            tasks.start_soon(read, events, started)
            await started.wait()
            events.close()
    assert ended == [1]


async def test_a_reader_who_is_no_longer_welcome_is_sent_away(
    boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ASK_S", 0.0)
    welcome = [True, False]
    async with AsyncExitStack() as stack:
        events = await boots.boot(stack)
        publish(events, range(3))
        await events.flush()
        with anyio.fail_after(10):
            chunks = [each async for each in events.follow(["jobs"], events.last_id - 3, welcome.pop)]
    assert [len(parsed(each)) for each in chunks] == [0]
