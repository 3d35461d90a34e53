"""The queue over real lanes: shares, order, pauses, and what survives a restart."""

from collections import Counter
from pathlib import Path

import pytest

from contract.errors import InvalidParams, NotFound, StateConflict
from orchestrator.jobs.job import Job
from orchestrator.jobs.listing import Filter
from orchestrator.jobs.order import Place, in_order, moved
from orchestrator.settings import load
from tests.orchestrator.jobs.deeds import Bench, device, open_bench

pytestmark = pytest.mark.anyio


async def _waiting(bench: Bench, jobs: list[Job]) -> list[int]:
    """What waits, as places in `jobs`."""
    ids = [job.id for job in jobs]
    return [ids.index(id) for id in (await bench.studio.queue.view()).waiting]


async def test_two_devices_of_weights_1_and_3_get_jobs_1_to_3(tmp_path: Path) -> None:
    async with open_bench(tmp_path, [device(0), device(1)]) as bench:
        queue = bench.studio.queue
        await queue.set_lane("fake:0", 1.0, None)
        await queue.set_lane("fake:1", 3.0, None)
        jobs = [await bench.start() for _ in range(16)]
        ended = [await bench.until(job) for job in jobs]
        assert Counter(job.lane for job in ended) == {"fake:0": 4, "fake:1": 12}
        assert [lane.view().served for lane in queue.lanes][:2] == [4, 12]


async def test_a_long_run_does_not_delay_a_resize(bench: Bench) -> None:
    run = await bench.start(deed="wait")
    behind = await bench.start()
    await bench.until(run, "running")
    resized = await bench.until(await bench.start("resize"))
    assert (resized.state, resized.lane) == ("succeeded", "cpu")
    tagged = await bench.until(await bench.start("pictures"))
    assert (tagged.state, tagged.lane) == ("succeeded", "cpu")
    studied = await bench.until(await bench.start("study"))
    assert (studied.state, studied.lane) == ("succeeded", "studio")
    assert (await bench.studio.jobs.get(run.id)).state == "running"
    assert (await bench.studio.jobs.get(behind.id)).state == "queued"
    bench.go(run)
    assert (await bench.until(behind)).state == "succeeded"


async def test_pictures_take_a_device_that_is_free(bench: Bench) -> None:
    assert (await bench.until(await bench.start("pictures"))).lane == "fake:0"


async def test_without_a_device_there_are_two_lanes_for_kernels(tmp_path: Path) -> None:
    async with open_bench(tmp_path, []) as bench:
        assert [lane.spec.id for lane in bench.studio.queue.lanes] == ["cpu:run", "cpu", "studio"]
        run = await bench.start(deed="wait")
        await bench.until(run, "running")
        assert (await bench.until(await bench.start("pictures"))).lane == "cpu"


async def test_a_disabled_device_gets_nothing_and_finishes_what_it_has(tmp_path: Path) -> None:
    async with open_bench(tmp_path, [device(0), device(1)]) as bench:
        queue = bench.studio.queue
        run = await bench.start(deed="wait")
        await bench.until(run, "running")
        await queue.set_lane("fake:0", None, False)
        await queue.set_lane("fake:1", None, False)
        waiting = await bench.start()
        bench.go(run)
        assert (await bench.until(run)).state == "succeeded"
        assert (await bench.studio.jobs.get(waiting.id)).state == "queued"
        await queue.set_lane("fake:1", None, True)
        assert (await bench.until(waiting)).lane == "fake:1"


async def test_what_a_device_gets_is_kept_in_the_settings(tmp_path: Path) -> None:
    async with open_bench(tmp_path, [device(0), device(1)]) as bench:
        await bench.studio.queue.set_lane("fake:1", 3.0, False)
    (kept,) = load(tmp_path / "home").devices
    assert (kept.id, kept.weight, kept.enabled) == ("fake:1", 3.0, False)
    async with open_bench(tmp_path, [device(0), device(1)]) as bench:
        view = bench.studio.queue.lane("fake:1").view()
        assert (view.weight, view.enabled, view.state) == (3.0, False, "disabled")


async def test_lanes_that_are_always_there_cannot_be_changed(bench: Bench) -> None:
    for id in ("cpu", "studio"):
        with pytest.raises(StateConflict):
            await bench.studio.queue.set_lane(id, 2.0, None)
    with pytest.raises(NotFound):
        await bench.studio.queue.set_lane("fake:9", 2.0, None)
    with pytest.raises(StateConflict):
        bench.studio.queue.restart("studio")


async def test_priorities_order_and_pause_survive_a_restart(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.studio.queue.pause(True)
        jobs = [await bench.start(priority=priority) for priority in (0, 0, 5, 0)]
        assert await _waiting(bench, jobs) == [2, 0, 1, 3]
        await bench.studio.queue.reorder(lambda waiting: moved(waiting, jobs[3].id, "before", jobs[0].id))
        assert await _waiting(bench, jobs) == [2, 3, 0, 1]
    async with open_bench(tmp_path) as bench:
        queue = bench.studio.queue
        assert queue.is_paused
        assert await _waiting(bench, jobs) == [2, 3, 0, 1]
        await queue.reorder(lambda waiting: in_order(waiting, [jobs[1].id, jobs[2].id]))
        assert await _waiting(bench, jobs) == [1, 3, 0, 2]
        assert (await bench.studio.jobs.get(jobs[1].id)).priority == 5
        await queue.pause(False)
        for job in jobs:
            await bench.until(job)
        assert [line[0] for line in bench.journal()] == [jobs[place].id for place in (1, 3, 0, 2)]
        assert not (await queue.view()).waiting


async def test_a_pause_lets_running_jobs_end(bench: Bench) -> None:
    run = await bench.start(deed="wait")
    await bench.until(run, "running")
    await bench.studio.queue.pause(True)
    waiting = await bench.start()
    bench.go(run)
    assert (await bench.until(run)).state == "succeeded"
    assert (await bench.studio.jobs.get(waiting.id)).state == "queued"
    await bench.studio.queue.pause(False)
    assert (await bench.until(waiting)).state == "succeeded"


async def test_an_order_that_cannot_be_changes_nothing(bench: Bench) -> None:
    await bench.studio.queue.pause(True)
    jobs = [await bench.start() for _ in range(3)]

    def fails(waiting: list[Place]) -> list[Place]:
        raise InvalidParams("no")

    with pytest.raises(InvalidParams):
        await bench.studio.queue.reorder(fails)
    assert await _waiting(bench, jobs) == [0, 1, 2]


async def test_lists_find_jobs_by_what_they_are(bench: Bench) -> None:
    await bench.studio.queue.pause(True)
    jobs = [await bench.start(name=f"job {number}", output=f"made{number}") for number in range(5)]
    resize = await bench.start("resize", name="other", priority=9)
    table = bench.studio.jobs
    listed = await table.newest(Filter(), None, 10)
    assert [job.id for job in listed.jobs] == [resize.id, *(job.id for job in reversed(jobs))]
    assert (listed.total, listed.positions[resize.id], listed.positions[jobs[0].id]) == (6, 1, 2)
    assert (await table.newest(Filter(text="MADE3"), None, 10)).jobs[0].id == jobs[3].id
    assert (await table.newest(Filter(kind="resize"), None, 10)).total == 1
    assert (await table.newest(Filter(states=["running"]), None, 10)).total == 0
    first = await table.in_queue(Filter(), None, 2)
    assert [job.id for job in first.jobs] == [resize.id, jobs[0].id]
    last = first.jobs[-1]
    rest = await table.in_queue(Filter(), (last.priority, last.position, last.id), 10)
    assert [job.id for job in rest.jobs] == [job.id for job in jobs[1:]]


async def test_a_change_of_the_queue_is_told(bench: Bench) -> None:
    events = bench.studio.events
    stream = events.follow(["queue"], events.last_id)
    await anext(stream)
    await bench.studio.queue.pause(True)
    assert b'"paused":true' in await anext(stream)
    await stream.aclose()
