"""The journey over HTTP with a real kernel: photographs, a tagging job, captions, undo, history."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.jobs.states import TERMINAL
from orchestrator.studio import Studio
from tests.orchestrator.cli.conftest import CAPTIONS, SHIPPED

pytestmark = pytest.mark.anyio


@pytest.fixture
def model(studio: Studio, demo_tagger: Path) -> dict[str, Any]:
    """The demo tagger among the models of the studio."""
    folder = studio.home / "models" / "taggers" / "demo"
    shutil.copytree(demo_tagger, folder)
    return {"model": {"path": str(folder)}}


async def done(client: httpx.AsyncClient, studio: Studio, **body: Any) -> dict[str, Any]:
    """A job at its end."""
    response = await client.post("/jobs", json=body)
    assert response.status_code == 202, response.text
    id = response.json()["id"]
    await studio.jobs.wait(id, lambda job: job.state in TERMINAL, 30)
    job: dict[str, Any] = (await client.get(f"/jobs/{id}")).json()
    assert job["state"] == "succeeded", job
    return job


async def made(client: httpx.AsyncClient) -> str:
    """A dataset of photographs; its address."""
    dataset = (await client.post("/datasets", json={"name": "Photographs"})).json()
    files = [("file", (name, (SHIPPED / name).read_bytes())) for name in CAPTIONS]
    uploaded = await client.post(f"/datasets/{dataset['id']}/images", files=files)
    assert uploaded.json()["created"] == len(CAPTIONS), uploaded.text
    return str(dataset["id"])


async def texts(client: httpx.AsyncClient, dataset: str) -> dict[str, str | None]:
    items = (await client.get(f"/datasets/{dataset}/images")).json()["items"]
    return {each["path"]: each["captions"]["tags"]["text"] for each in items}


async def test_photographs_are_tagged_and_a_whole_run_is_undone(
    client: httpx.AsyncClient, studio: Studio, model: dict[str, Any]
) -> None:
    dataset = await made(client)
    body: dict[str, Any] = {"kind": "tag", "settings": model, "source": {"dataset": dataset}}
    job = await done(client, studio, **body)
    assert (job["outcome"]["tagged"], job["outcome"]["written"]) == (4, 4)
    assert await texts(client, dataset) == CAPTIONS
    image = (await client.get(f"/datasets/{dataset}/images", params={"q": "coffee"})).json()["items"][0]
    scores = (await client.get(f"/datasets/{dataset}/images/{image['id']}/scores")).json()["items"]
    assert [each["job_id"] for each in scores] == [job["id"]]
    assert "red" in [tag["name"] for tag in scores[0]["item"]["tags"]]

    again = await done(client, studio, **body)
    assert (again["outcome"]["tagged"], again["outcome"]["skipped"]) == (0, 4)

    edit_id = job["outcome"]["edit_id"]
    undone = await client.post(f"/datasets/{dataset}/edits/{edit_id}/revert")
    assert (undone.status_code, undone.json()["edit"]["changes"]) == (201, 4)
    assert set((await texts(client, dataset)).values()) == {None}
    assert not list((studio.home / "datasets" / "photographs").glob("*.txt"))


async def test_single_files_are_tagged_without_touching_them(
    client: httpx.AsyncClient, studio: Studio, model: dict[str, Any]
) -> None:
    await made(client)
    files = [{"root": "datasets", "path": f"photographs/{name}"} for name in ("coffee.png", "rocket.jpg")]
    job = await done(client, studio, kind="tag", settings=model, source={"files": files})
    assert [each["role"] for each in job["artifacts"]] == ["results"]
    results = (studio.home / "runs" / job["id"] / "results.jsonl").read_text(encoding="utf-8")
    assert len(results.splitlines()) == 2
    assert not list((studio.home / "datasets" / "photographs").glob("*.txt"))


async def test_thumbnails_of_a_dataset_are_made_beforehand(client: httpx.AsyncClient, studio: Studio) -> None:
    dataset = await made(client)
    settings = {"sizes": [128, 256]}
    job = await done(client, studio, kind="thumbnails", settings=settings, source={"dataset": dataset})
    assert job["outcome"] == {"ready": 8, "failed": 0}
    assert len(list((studio.home / "caches" / "thumbnails").rglob("*.webp"))) == 8
