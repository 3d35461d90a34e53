"""Datasets over HTTP: made, registered, renamed, deleted, looked at again."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.jobs.states import TERMINAL
from orchestrator.studio import Studio
from tests.orchestrator.datasets.shelf import copy_photographs

pytestmark = pytest.mark.anyio

CATS = {"name": "Cats", "folder": {"root": "photos", "path": "cats"}}


async def made(client: httpx.AsyncClient, name: str = "Cats") -> httpx.Response:
    response = await client.post("/datasets", json={"name": name})
    assert response.status_code == 201, response.text
    return response


@pytest.fixture
async def photos(studio: Studio, tmp_path: Path) -> Path:
    """A folder of the user, listed as the root `photos`."""
    folder = tmp_path / "photos"
    copy_photographs(folder / "cats")
    (folder / "cats" / "chelsea.txt").write_bytes(b"a cat")
    settings = studio.settings
    await settings.change({"roots": [{"id": "photos", "path": str(folder)}]}, settings.etag)
    return folder


async def test_a_dataset_is_made_read_renamed_and_deleted(client: httpx.AsyncClient) -> None:
    created = await made(client)
    place, etag = created.headers["location"], created.headers["etag"]
    assert created.json()["path"] == "cats"
    read = await client.get(f"http://studio{place}")
    assert (read.json(), read.headers["etag"]) == (created.json(), etag)
    renamed = await client.patch(f"http://studio{place}", json={"name": "Dogs"}, headers={"if-match": etag})
    assert (renamed.status_code, renamed.json()["name"], renamed.json()["path"]) == (200, "Dogs", "cats")
    late = await client.delete(f"http://studio{place}", headers={"if-match": etag})
    assert (late.status_code, late.json()["code"]) == (412, "stale_version")
    headers = {"if-match": renamed.headers["etag"]}
    assert (await client.delete(f"http://studio{place}", headers=headers)).status_code == 204
    assert (await client.get(f"http://studio{place}")).status_code == 404


async def test_datasets_come_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await made(client, f"Cats {number}")
    first = (await client.get("/datasets", params={"limit": 3})).json()
    assert (len(first["items"]), first["total"]) == (3, 5)
    rest = (await client.get("/datasets", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert (len(rest["items"]), rest["next_cursor"]) == (2, None)
    ids = [each["id"] for each in first["items"] + rest["items"]]
    assert len(set(ids)) == 5


async def test_the_same_request_again_makes_one_dataset(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "abc"}
    first = await client.post("/datasets", json={"name": "Cats"}, headers=headers)
    again = await client.post("/datasets", json={"name": "Cats"}, headers=headers)
    assert again.json() == first.json()
    assert (await client.get("/datasets")).json()["total"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a", "nonsense": 1},
        {"name": "a", "folder": {"root": "photos"}},
        {"name": "a", "folder": {"root": "nothing", "path": "cats"}},
        {"name": "a", "folder": {"root": "datasets", "path": ""}},
        {"name": "a", "folder": {"root": "datasets", "path": "../secrets"}},
    ],
)
async def test_a_wrong_request_is_refused(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    assert (await client.post("/datasets", json=body)).status_code == 422


async def test_a_registered_folder_is_imported_by_itself(
    client: httpx.AsyncClient, studio: Studio, photos: Path
) -> None:
    created = await client.post("/datasets", json=CATS)
    assert created.status_code == 201, created.text
    assert (await outcome(studio, created.json()["import_job_id"]))["added"] == 4
    dataset = (await client.get(f"/datasets/{created.json()['id']}")).json()
    assert (dataset["images"], dataset["captioned"], dataset["managed"]) == (4, 1, False)
    again = await client.post("/datasets", json=CATS)
    assert (again.status_code, again.json()["code"]) == (409, "state_conflict")


async def test_a_folder_is_looked_at_again_as_a_job(
    client: httpx.AsyncClient, studio: Studio, photos: Path
) -> None:
    created = await client.post("/datasets", json=CATS)
    await outcome(studio, created.json()["import_job_id"])
    (photos / "cats" / "coffee.png").unlink()
    (photos / "cats" / "chelsea.txt").write_bytes(b"another cat")
    response = await client.post(f"/datasets/{created.json()['id']}/rescan")
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/v1/jobs/{response.json()['id']}"
    found = await outcome(studio, response.json()["id"])
    assert (found["removed"], found["captions"]) == (1, 1)


async def test_a_folder_that_is_gone_is_said(client: httpx.AsyncClient, photos: Path) -> None:
    created = await client.post("/datasets", json=CATS)
    os.rename(photos, photos.with_name("unplugged"))
    read = (await client.get(f"/datasets/{created.json()['id']}")).json()
    assert read["problem"]["code"] == "file_missing"


async def outcome(studio: Studio, job_id: str) -> dict[str, Any]:
    """What a job came to."""
    job = await studio.jobs.wait(job_id, lambda job: job.state in TERMINAL, 30)
    assert job.state == "succeeded", job
    found: dict[str, Any] = job.outcome
    return found


@pytest.mark.parametrize("id", ["ds_1", "nonsense", "ds_" + "0" * 26, "%2e%2e", "ds_" + "0" * 26 + "%0a"])
async def test_an_unknown_dataset_is_not_found(client: httpx.AsyncClient, id: str) -> None:
    for path in ("", "/images", "/edits"):
        response = await client.get(f"/datasets/{id}{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
