"""Jobs over HTTP: asked for, followed, ended, tried again, and what they leave behind."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from orchestrator.serving.app import make_app
from tests.orchestrator.jobs.deeds import PATIENCE_S, Bench, open_bench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(bench.studio))
    async with httpx.AsyncClient(transport=transport, base_url="http://studio/api/v1") as opened:
        yield opened


async def _post(client: httpx.AsyncClient, kind: str = "run", deed: str = "finish", **fields: Any) -> Any:
    headers = fields.pop("headers", {})
    times = fields.pop("times", 1)
    body = {"kind": kind, "settings": {"deed": deed, "times": times}, **fields}
    response = await client.post("/jobs", json=body, headers=headers)
    assert response.status_code in (200, 202), response.text
    assert response.headers["location"] == f"/api/v1/jobs/{response.json()['id']}"
    return response.json()


async def _until(client: httpx.AsyncClient, job: Any, *states: str) -> Any:
    """The job, once it is in one of these states."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            found = (await client.get(f"/jobs/{job['id']}")).json()
            if found["state"] in states:
                return found


async def test_a_job_is_taken_and_can_be_waited_for(client: httpx.AsyncClient) -> None:
    job = await _post(client, name="mine", headers={"prefer": "wait=20"})
    assert (job["state"], job["reason"], job["name"]) == ("succeeded", "finished", "mine")
    assert [each["after"] for each in job["transitions"]] == ["queued", "starting", "running", "succeeded"]
    (attempt,) = job["attempts"]
    assert (attempt["attempt"], attempt["lane"], attempt["state"]) == (1, "fake:0", "succeeded")
    assert job["queue_position"] is None and job["error"] is None
    assert job["settings"] == {"deed": "finish", "times": 1, "path": None}
    read = (await client.get(f"/jobs/{job['id']}")).json()
    assert read.pop("last_event_id") >= job.pop("last_event_id") and read == job


async def test_the_same_request_again_makes_no_second_job(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "one"}
    first = await _post(client, headers=headers)
    again = await _post(client, headers=headers)
    assert first["id"] == again["id"]
    assert (await client.get("/jobs")).json()["total"] == 1


async def test_everything_that_is_wrong_is_named_at_once(client: httpx.AsyncClient, tmp_path: Path) -> None:
    settings = {"deed": 5, "times": "x", "nonsense": 1}
    body = {"kind": "run", "settings": settings, "output": "../out", "existing": "skip", "preset": None}
    response = await client.post("/jobs", json=body)
    assert response.status_code == 422
    assert {each["pointer"] for each in response.json()["errors"]} == {
        "#/settings/deed",
        "#/settings/times",
        "#/settings/nonsense",
        "#/output",
        "#/existing",
    }
    outside = {"kind": "run", "settings": {"path": str(tmp_path / "elsewhere")}}
    refused = (await client.post("/jobs", json=outside)).json()
    assert [each["pointer"] for each in refused["errors"]] == ["#/settings/path"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "dance"}, "#/kind"),
        ({"kind": "run", "preset": "none"}, "#/preset"),
        ({"kind": "run", "source": {"dataset": "ds_1"}}, "#/source/dataset"),
        ({"kind": "tag", "settings": {"model": {"repo": "a/b"}}}, "#/kind"),
        ({"kind": "run", "priority": 101}, "#/priority"),
        ({"kind": "run", "source": {}}, "#/source/dataset"),
    ],
)
async def test_a_job_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    response = await client.post("/jobs", json=body)
    assert response.status_code == 422
    assert [each["pointer"] for each in response.json()["errors"]] == [pointer]


async def test_a_preset_lies_under_the_settings(client: httpx.AsyncClient) -> None:
    preset = {"kind": "run", "name": "mild", "settings": {"deed": "finish", "times": 7}}
    assert (await client.post("/presets", json=preset)).status_code == 201
    body = {"kind": "run", "preset": "mild", "settings": {"times": 3}}
    job = (await client.post("/jobs", json=body)).json()
    assert (job["settings"]["deed"], job["settings"]["times"]) == ("finish", 3)


async def test_jobs_are_listed_page_by_page(client: httpx.AsyncClient, bench: Bench) -> None:
    await bench.studio.queue.pause(True)
    jobs = [await _post(client, priority=priority) for priority in (0, 3, 0, 3, 0)]
    for order, wanted in (("newest", [4, 3, 2, 1, 0]), ("queue", [1, 3, 0, 2, 4])):
        found: list[str] = []
        params = {"limit": "2", "order": order}
        while True:
            page = (await client.get("/jobs", params=params)).json()
            assert page["total"] == 5
            found += [each["id"] for each in page["items"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert found == [jobs[number]["id"] for number in wanted]
    page = (await client.get("/jobs", params={"state": "queued, running"})).json()
    assert sorted(each["queue_position"] for each in page["items"]) == [1, 2, 3, 4, 5]
    assert (await client.get("/jobs", params={"state": "dancing"})).status_code == 422
    assert (await client.get("/jobs", params={"cursor": "AAAA"})).status_code == 422


async def test_cancel_says_whether_it_is_over(client: httpx.AsyncClient) -> None:
    job = await _post(client, deed="wait")
    await _until(client, job, "running")
    response = await client.post(f"/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()["state"]) == (202, "canceling")
    assert (await _until(client, job, "canceled"))["reason"] == "canceled"
    before = (await client.get(f"/jobs/{job['id']}")).json()
    response = await client.post(f"/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()["changed_at"]) == (200, before["changed_at"])


async def test_pause_and_resume(client: httpx.AsyncClient, bench: Bench) -> None:
    job = await _post(client, deed="wait")
    await _until(client, job, "running")
    assert (await client.post(f"/jobs/{job['id']}/pause")).status_code == 202
    paused = await _until(client, job, "paused")
    assert paused["resumable"]
    assert (await client.post(f"/jobs/{job['id']}/pause")).status_code == 200
    (bench.folder / f"{job['id']}.go").touch()
    assert (await client.post(f"/jobs/{job['id']}/resume")).status_code == 202
    assert (await _until(client, job, "succeeded"))["attempt"] == 2
    response = await client.post(f"/jobs/{job['id']}/resume")
    assert (response.status_code, response.json()["code"]) == (409, "state_conflict")


async def test_a_failed_job_says_why_and_is_tried_again(client: httpx.AsyncClient) -> None:
    job = await _post(client, "once", "die", headers={"prefer": "wait=20"})
    assert (job["state"], job["error"]["code"]) == ("failed", "kernel_died")
    assert job["error"]["details"]["signal"] == "SIGKILL"
    headers = {"idempotency-key": "again"}
    response = await client.post(f"/jobs/{job['id']}/retry", headers=headers)
    assert (response.status_code, response.json()["attempt"]) == (202, 2)
    done = await _until(client, job, "succeeded")
    assert [(each["attempt"], each["state"]) for each in done["attempts"]] == [
        (1, "failed"),
        (2, "succeeded"),
    ]
    assert done["attempts"][0]["error"]["code"] == "kernel_died"
    again = await client.post(f"/jobs/{job['id']}/retry", headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert (await client.post(f"/jobs/{job['id']}/retry")).status_code == 409


async def test_out_of_memory_needs_other_settings(client: httpx.AsyncClient) -> None:
    job = await _post(client, deed="run out of memory", headers={"prefer": "wait=20"})
    assert (job["state"], job["reason"]) == ("failed", "out_of_memory")
    for response in (
        await client.post(f"/jobs/{job['id']}/retry"),
        await client.post(f"/jobs/{job['id']}/rerun", json={}),
    ):
        assert (response.status_code, response.json()["code"]) == (409, "state_conflict")
        assert "other settings" in response.json()["hint"]
    body = {"settings": {"deed": "finish"}, "name": "smaller"}
    response = await client.post(f"/jobs/{job['id']}/rerun", json=body, headers={"prefer": "wait=20"})
    made = response.json()
    assert (made["state"], made["parent_id"], made["name"]) == ("succeeded", job["id"], "smaller")


async def test_a_change_must_name_its_version(client: httpx.AsyncClient, bench: Bench) -> None:
    await bench.studio.queue.pause(True)
    job = await _post(client)
    place = f"/jobs/{job['id']}"
    assert (await client.patch(place, json={"name": "x"})).status_code == 428
    tag = (await client.get(place)).headers["etag"]
    changed = await client.patch(place, json={"name": "new", "priority": 9}, headers={"if-match": tag})
    assert (changed.status_code, changed.json()["name"], changed.json()["priority"]) == (200, "new", 9)
    assert (await client.patch(place, json={"name": "x"}, headers={"if-match": tag})).status_code == 412
    assert (await client.get(place)).json()["name"] == "new"


async def test_only_what_has_ended_is_deleted_and_its_folder_can_be_brought_back(
    client: httpx.AsyncClient, bench: Bench
) -> None:
    job = await _post(client, "study", headers={"prefer": "wait=20"})
    folder = bench.studio.jobs.folder(job["id"])
    assert (folder / "made.txt").exists()
    assert (await client.delete(f"/jobs/{job['id']}")).status_code == 204
    assert (await client.get(f"/jobs/{job['id']}")).status_code == 404
    assert not folder.exists()
    (trashed,) = bench.studio.trash.list()
    assert (trashed.kind, trashed.path) == ("job", job["id"])
    running = await _post(client, deed="wait")
    response = await client.delete(f"/jobs/{running['id']}")
    assert (response.status_code, response.json()["code"]) == (409, "state_conflict")


async def test_what_a_job_leaves_behind_can_be_read(client: httpx.AsyncClient, bench: Bench) -> None:
    job = await _post(client, deed="report", times=5)
    (bench.folder / f"{job['id']}.go").touch()
    await _until(client, job, "succeeded")
    place = f"/jobs/{job['id']}"
    log = (await client.get(f"{place}/log", params={"tail": "1", "level": "warning"})).json()
    assert "/etc/hostname" in log["lines"][0]["message"]
    file = await client.get(f"{place}/log/file", headers={"range": "bytes=0-9"})
    assert (file.status_code, len(file.content)) == (206, 10)
    metrics = (await client.get(f"{place}/metrics", params={"keys": "loss", "from_step": "4"})).json()
    assert metrics == {"series": [{"key": "loss", "steps": [4, 5], "values": [0.25, 0.2]}]}
    assert (await client.get(f"{place}/metrics", params={"max_points": "3"})).status_code == 422
    page = (await client.get(f"{place}/artifacts")).json()
    (made,) = page["items"]
    assert (made["role"], made["size_bytes"], page["total"]) == ("text", 13, 1)
    content = await client.get(f"{place}/artifacts/{made['number']}", headers={"range": "bytes=5-"})
    assert (content.status_code, content.content) == (206, b"by a job")
    assert "attachment" in content.headers["content-disposition"]
    assert (await client.get(f"{place}/artifacts/2")).status_code == 404
    progress = (await client.get(place)).json()["progress"]
    assert (progress["phase"], progress["step"], progress["total"]) == ("steps", 5, 5)


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    nowhere = "/jobs/job_00000000000000000000000000"
    for path in ("", "/log", "/log/file", "/metrics", "/artifacts", "/artifacts/1"):
        assert (await client.get(nowhere + path)).status_code == 404, path
    for action in ("cancel", "pause", "resume", "retry"):
        assert (await client.post(f"{nowhere}/{action}")).status_code == 404, action
    assert (await client.get("/jobs/no-id")).status_code == 404
    job = await _post(client, "study", "wait")
    assert (await client.get(f"/jobs/{job['id']}/artifacts/0")).status_code == 404
