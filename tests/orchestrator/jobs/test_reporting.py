"""What jobs say reaches everybody, and drowns nobody."""

import json
from typing import Any

import anyio
import pytest

from contract.errors import DiskFull
from orchestrator.jobs.job import Job
from tests.orchestrator.jobs.deeds import PATIENCE_S, Bench

pytestmark = pytest.mark.anyio


async def _told(bench: Bench, job: Job, after: int) -> list[tuple[str, Any]]:
    """The events about a job, up to its end."""
    stream = bench.studio.events.follow([f"job:{job.id}"], after)
    told: list[tuple[str, Any]] = []
    with anyio.fail_after(PATIENCE_S):
        async for chunk in stream:
            for event in chunk.decode().split("\n\n"):
                lines = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
                if "event" in lines and "data" in lines:
                    told.append((lines["event"], json.loads(lines["data"])))
            if told and told[-1][1].get("state") == "succeeded":
                break
    await stream.aclose()
    return told


async def test_chatter_is_told_in_a_few_events_and_kept_whole(bench: Bench) -> None:
    start = bench.studio.events.last_id
    job = await bench.until(await bench.start("study", "chatter", times=5_000))
    told = await _told(bench, job, start)
    names = [name for name, _ in told]
    assert names.count("job.progress") <= 3
    assert names.count("job.log") <= 3
    last = [data for name, data in told if name == "job.progress"][-1]
    assert last["progress"]["step"] == 4_999
    lines = [data for name, data in told if name == "job.log"]
    assert sum(len(each["lines"]) + each["skipped"] for each in lines) == 5_000
    assert all(len(json.dumps(each)) < 64 * 1024 for each in lines)
    kept = await bench.studio.jobs.log(job.id, 10_000, "debug")
    assert [line.number for line in kept] == list(range(1, 5_001))
    series = await bench.studio.jobs.metrics(job.id, ["noise"], 0, 10_000)
    assert len(series["noise"]) == 5_000
    ended = await bench.studio.jobs.get(job.id)
    assert ended.progress is not None and ended.progress["step"] == 4_999


async def test_states_are_told_in_their_order(bench: Bench) -> None:
    start = bench.studio.events.last_id
    job = await bench.until(await bench.start(deed="die"), "succeeded")
    told = await _told(bench, job, start)
    states = [
        (data["state"], data["attempt"]) for name, data in told if name != "job.progress" and "state" in data
    ]
    assert states == [
        ("queued", 1),
        ("starting", 1),
        ("running", 1),
        ("interrupted", 1),
        ("queued", 2),
        ("starting", 2),
        ("running", 2),
        ("succeeded", 2),
    ]
    assert told[0][0] == "job.created"


async def test_no_key_gets_into_a_log(bench: Bench) -> None:
    secret = "hf_aVerySecretKey"
    await anyio.to_thread.run_sync(bench.studio.keys.set, "huggingface", secret)
    job = await bench.until(await bench.start("study", "chatter", times=3))
    text = str(await bench.studio.jobs.log(job.id, 10, "debug"))
    assert secret not in text and "***" in text


async def test_a_job_that_ends_while_the_disk_is_full_is_settled_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.start(deed="wait")
    await bench.until(job, "running")
    tries = 0

    async def full(work: Any) -> Any:
        nonlocal tries
        tries += 1
        raise DiskFull("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(bench.studio.control, "write", full)
        bench.go(job)
        with anyio.fail_after(PATIENCE_S):
            while tries < 5:
                await anyio.lowlevel.checkpoint()
        with pytest.raises(DiskFull):
            await bench.start()
        with pytest.raises(DiskFull):
            await bench.studio.queue.pause(True)
        assert not bench.studio.queue.is_paused
        assert (await bench.studio.jobs.get(job.id)).state == "running"
    assert (await bench.until(job)).state == "succeeded"
    assert (await bench.until(await bench.start())).state == "succeeded"
