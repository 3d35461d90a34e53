"""A data directory that was filled once, and copies of it for trials."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.faults.photographs import Photograph, photographs
from tests.studio_process import StudioProcess, until

MODEL = "models/taggers/demo-tagger"


class Prepared(NamedTuple):
    """A data directory with datasets (ids by name), and the demo tagger among its models."""

    home: Path
    datasets: dict[str, str]

    def copy(self, folder: Path) -> Path:
        """A data directory of one's own."""
        home = folder / "home"
        shutil.copytree(self.home, home)
        return home


def model_of(home: Path) -> dict[str, str]:
    """The demo tagger, as the settings of a job name it."""
    return {"path": str(home / MODEL)}


def prepare(home: Path, demo_tagger: Path, sizes: dict[str, int], side: int = 160) -> Prepared:
    """Fill a data directory: a dataset of each name, with so many photographs, `side` pixels wide."""
    shutil.copytree(demo_tagger, home / MODEL)
    with StudioProcess(home) as studio, studio.client() as client:
        datasets = {
            name: add_dataset(client, name, photographs(count, side=side, seed=number))
            for number, (name, count) in enumerate(sizes.items())
        }
    return Prepared(home, datasets)


def add_dataset(client: httpx.Client, name: str, pictures: Iterable[Photograph]) -> str:
    """A dataset with these pictures; its id."""
    made = client.post("/datasets", json={"name": name})
    assert made.status_code == 201, made.text
    dataset_id: str = made.json()["id"]
    files = [("file", (each.name, each.content, "image/jpeg")) for each in pictures]
    if files:
        sent = client.post(f"/datasets/{dataset_id}/images", files=files)
        assert sent.is_success, sent.text
        assert sent.json()["created"] == len(files)
    return dataset_id


def tag(client: httpx.Client, home: Path, dataset_id: str, **more: Any) -> str:
    """Start a tagging job; its id."""
    settings = {"model": model_of(home), **more.pop("settings", {})}
    asked = {"kind": "tag", "source": {"dataset": dataset_id}, "settings": settings, **more}
    answer = client.post("/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def ended(client: httpx.Client, job_id: str, within_s: float = 30) -> dict[str, Any]:
    """The job, once it has ended for good: one that is retried by itself has not."""

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        return job if job["state"] in ("succeeded", "failed", "canceled", "interrupted") else None

    found: dict[str, Any] = until(look, within_s)
    return found


def captions(client: httpx.Client, dataset_id: str, kind: str = "tags") -> dict[str, str]:
    """The captions of a dataset by the path of their image."""
    found: dict[str, str] = {}
    cursor: str | None = None
    while True:
        page = client.get(
            f"/datasets/{dataset_id}/images", params={"limit": 1000} | ({"cursor": cursor} if cursor else {})
        ).json()
        for each in page["items"]:
            if (text := each["captions"][kind]["text"]) is not None:
                found[each["path"]] = text
        if (cursor := page["next_cursor"]) is None:
            return found
