"""A studio in use: something of every resource is there, so that there is something to attack and to leak."""

import io
from typing import Any, Final

import httpx
from PIL import Image

from orchestrator.api.registry import PREFIX
from tests.e2e.owned import Owned
from tests.studio_process import until

#: The model that comes with the kernel.
DEMO_TAGGER: Final = "model_demo_tagger"
#: Seconds that a job may take, a kernel's start included.
JOB_S: Final = 60.0


def journey(studio: Owned) -> dict[str, str]:
    """Make a preset, a dataset with a picture, and tag it; the ids of it all, by their names in paths."""
    ids = begun(studio)
    with studio.client() as client:
        job = tagged(client, ids["dataset_id"])
        (edit,) = _items(client, f"/datasets/{ids['dataset_id']}/edits")
        return {**ids, "job_id": job, "edit_id": edit["id"]}


def begun(studio: Owned) -> dict[str, str]:
    """The same without the tagging."""
    with studio.client() as client:
        preset = _made(client, "/presets", {"kind": "tag", "name": "Plain", "settings": {}})
        dataset = _made(client, "/datasets", {"name": "Cats"})
        files = {"file": ("red.png", picture(), "image/png")}
        client.post(f"/datasets/{dataset}/images", files=files).raise_for_status()
        (image,) = _items(client, f"/datasets/{dataset}/images")
        client.get(image["thumbnail"].removeprefix(PREFIX)).raise_for_status()
        return {
            "preset_id": preset,
            "dataset_id": dataset,
            "image_id": image["id"],
            "kind": "tags",
            "sha256": image["sha256"],
            "size": "256",
            "name": "huggingface",
            "lane_id": client.get("/queue").json()["lanes"][0]["id"],
            "model_id": _items(client, "/models")[0]["id"],
            "session_id": _items(client, "/sessions")[0]["id"],
        }


def tagging(dataset: str) -> dict[str, Any]:
    """What POST /jobs takes to tag a dataset, anew if it was tagged."""
    settings = {"model": DEMO_TAGGER}
    return {"kind": "tag", "source": {"dataset": dataset}, "settings": settings, "existing": "overwrite"}


def tagged(client: httpx.Client, dataset: str) -> str:
    """Tag a dataset to the end; the job's id."""
    job = _made(client, "/jobs", tagging(dataset))

    def ended() -> Any:
        found = client.get(f"/jobs/{job}").raise_for_status().json()
        return found if found["finished_at"] else None

    state = until(ended, JOB_S)
    assert state["state"] == "succeeded", state
    return job


def picture(size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG file."""
    made = io.BytesIO()
    Image.new("RGB", size, (200, 20, 20)).save(made, "PNG")
    return made.getvalue()


def _made(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    reply = client.post(path, json=body)
    assert reply.is_success, reply.text
    id: str = reply.json()["id"]
    return id


def _items(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(path).raise_for_status().json()["items"]
    return items
