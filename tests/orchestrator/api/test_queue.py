"""The queue, the lanes and the kinds of jobs over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.jobs.kinds import KINDS
from orchestrator.serving.app import make_app
from tests.orchestrator.jobs.deeds import Bench, device, open_bench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, [device(0), device(1)]) as opened:
        yield opened


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(bench.studio))
    async with httpx.AsyncClient(transport=transport, base_url="http://studio/api/v1") as opened:
        yield opened


async def _paused(client: httpx.AsyncClient, paused: bool = True) -> httpx.Response:
    tag = (await client.get("/queue")).headers["etag"]
    return await client.patch("/queue", json={"paused": paused}, headers={"if-match": tag})


async def test_the_queue_shows_its_lanes(client: httpx.AsyncClient) -> None:
    queue = (await client.get("/queue")).json()
    assert (queue["paused"], queue["waiting"]) == (False, [])
    assert [(lane["id"], lane["state"]) for lane in queue["lanes"]] == [
        ("fake:0", "off"),
        ("fake:1", "off"),
        ("cpu", "off"),
        ("studio", "ready"),
    ]


async def test_the_queue_is_paused_by_who_has_seen_it(client: httpx.AsyncClient) -> None:
    assert (await client.patch("/queue", json={"paused": True})).status_code == 428
    before = (await client.get("/queue")).headers["etag"]
    assert (await _paused(client)).json()["paused"]
    late = await client.patch("/queue", json={"paused": False}, headers={"if-match": before})
    assert (late.status_code, late.json()["code"]) == (412, "stale_version")
    assert not (await _paused(client, False)).json()["paused"]


async def test_what_waits_is_brought_into_another_order(client: httpx.AsyncClient, bench: Bench) -> None:
    await _paused(client)
    ids = [(await bench.start()).id for _ in range(4)]

    async def order(body: dict[str, Any]) -> list[int]:
        response = await client.post("/queue/reorder", json=body)
        assert response.status_code == 200, response.text
        return [ids.index(id) for id in response.json()["waiting"]]

    assert await order({"job_ids": [ids[3], ids[0]]}) == [3, 1, 2, 0]
    assert await order({"job_id": ids[2], "to": "first"}) == [2, 3, 1, 0]
    assert await order({"job_id": ids[2], "to": "last"}) == [3, 1, 0, 2]
    assert await order({"job_id": ids[2], "before": ids[1]}) == [3, 2, 1, 0]
    assert await order({"job_id": ids[3], "after": ids[0]}) == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"job_ids": []}, 422),
        ({"job_ids": ["a", "a"]}, 422),
        ({"job_ids": ["a"]}, 409),
        ({"job_id": "a"}, 422),
        ({"job_id": "a", "to": "first", "after": "b"}, 422),
        ({"job_id": "a", "to": "first"}, 409),
        ({"job_ids": ["a"], "to": "first"}, 422),
        ({"job_ids": ["a"], "job_id": "a", "to": "first"}, 422),
    ],
)
async def test_an_order_that_cannot_be_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int
) -> None:
    assert (await client.post("/queue/reorder", json=body)).status_code == status


async def test_a_device_gets_more_work_or_none(client: httpx.AsyncClient) -> None:
    changed = await client.patch("/lanes/fake:1", json={"weight": 3, "enabled": False})
    assert (changed.status_code, changed.json()["weight"], changed.json()["enabled"]) == (200, 3.0, False)
    assert (await client.get("/queue")).json()["lanes"][1]["state"] == "disabled"
    assert (await client.patch("/lanes/fake:1", json={"weight": 0})).status_code == 422
    assert (await client.patch("/lanes/cpu", json={"weight": 2})).status_code == 409
    assert (await client.patch("/lanes/none:1", json={"weight": 2})).status_code == 404


async def test_a_lane_is_restarted(client: httpx.AsyncClient, bench: Bench) -> None:
    await bench.studio.queue.set_lane("fake:1", None, False)
    await bench.until(await bench.start())
    before = (await client.get("/queue")).json()["lanes"][0]["kernel_pid"]
    assert before is not None
    assert (await client.post("/lanes/fake:0/restart")).status_code == 200
    await bench.until(await bench.start(deed="wait"), "running")
    assert (await client.get("/queue")).json()["lanes"][0]["kernel_pid"] not in (None, before)
    assert (await client.post("/lanes/studio/restart")).status_code == 409


async def test_a_new_key_reaches_the_next_job(client: httpx.AsyncClient, bench: Bench) -> None:
    await bench.studio.queue.set_lane("fake:1", None, False)
    await bench.until(await bench.start())
    assert (await client.put("/keys/huggingface", json={"value": "hf_aVerySecretKey"})).status_code == 200
    await bench.until(await bench.start())
    assert len({pid for _, _, pid in bench.journal()}) == 2


async def test_every_kind_says_what_can_be_set(tmp_path: Path) -> None:
    from orchestrator.studio import open_studio

    async with open_studio(tmp_path / "other", devices=(), run=False) as studio:
        transport = httpx.ASGITransport(make_app(studio))
        async with httpx.AsyncClient(transport=transport, base_url="http://studio/api/v1") as client:
            kinds = (await client.get("/job-kinds")).json()["items"]
    assert [kind["name"] for kind in kinds] == list(KINDS)
    tag = next(kind for kind in kinds if kind["name"] == "tag")
    assert (tag["lane"], tag["takes_existing"]) == ("cpu", True)
    assert tag["defaults"]["general_threshold"] == 0.35 and "model" not in tag["defaults"]
    assert tag["settings"]["$ref"] == "#/$defs/TagSettings"
