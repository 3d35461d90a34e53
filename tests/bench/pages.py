"""Thumbnails and pages at 50 requests a second while a job takes every core: how late, and what it costs.

The job's rate is taken from the processor time that its kernel gets: it computes all the time, and the number
of pictures in a few seconds would be too coarse. Seconds with and without requests are taken in turn.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from kernel.cores import cores
from tests.bench import cache, photos
from tests.bench.child import cpu_s
from tests.bench.figures import Figure, Report, median
from tests.bench.http_load import Load, open_loop, request
from tests.builders.vit import build_vit_tagger
from tests.studio_process import StudioProcess, until

_RATE: Final = 50.0
_P99_MS: Final = 100.0
_KEPT: Final = 0.97
_PAGE: Final = 100
_DEMO: Final = Path(__file__).parents[2] / "kernel" / "data" / "demo-tagger"


class _Window(NamedTuple):
    kernel_cores: float
    load: Load | None


def run(quick: bool) -> Report:
    """A model of ViT-B size over photographs in the studio; the demo tagger when quick."""
    rounds, seconds, count = (1, 0.3, 40) if quick else (7, 8.0, 300)
    model = _DEMO if quick else cache.made("vit-b-448", build_vit_tagger)
    with tempfile.TemporaryDirectory() as folder, StudioProcess(Path(folder) / "studio") as studio:
        _linked(model, studio.home / "models" / "taggers" / "large")
        with studio.client() as client:
            dataset = _dataset(client, photos.jpegs(count, 256 if quick else 1024))
            thumbnails = _thumbnails(client, dataset)
            make = _requests(studio, dataset, thumbnails)
            job = _tagging(client, dataset, studio.home / "models" / "taggers" / "large")
            pid = until(lambda: _kernel_pid(client), 60)
            with_load, without = [], []
            for _ in range(rounds):
                without.append(_window(pid, lambda: time.sleep(seconds)))
                with_load.append(_window(pid, lambda: open_loop(_address(studio), make, _RATE, seconds)))
            state = client.get(f"/jobs/{job}").json()["state"]
            client.post(f"/jobs/{job}/cancel")
    return _report(with_load, without, state, quick)


def _report(with_load: list[_Window], without: list[_Window], state: str, quick: bool) -> Report:
    if state != "running" and not quick:
        raise RuntimeError(f"the job was {state} before the end")
    loads = [each.load for each in with_load if each.load is not None]
    if any(set(load.statuses) != {200} for load in loads):
        raise RuntimeError(f"answers: {[load.statuses for load in loads]}")
    p99, p50 = (median([load.percentile_ms(share) for load in loads]) for share in (0.99, 0.5))
    kept = [median([each.kernel_cores for each in windows]) for windows in (with_load, without)]
    figures = [
        Figure(f"{_RATE:g} requests/s beside a job, p99", p99, p50, "ms", _P99_MS, "value"),
        Figure("cores the job gets meanwhile", kept[0], kept[1], "cores", _KEPT, at_least=True),
    ]
    worst = max(load.percentile_ms(1.0) for load in loads)
    notes = [f"p50 (the floor) {p50:.1f} ms, slowest {worst:.0f} ms; {len(loads)} rounds, {cores()} cores"]
    return Report(figures, notes)


def _window(pid: int, meanwhile: Callable[[], Load | None]) -> _Window:
    """The cores that the kernel had while something else went on."""
    before, began = _cpu_s(pid), time.perf_counter()
    load = meanwhile()
    return _Window((_cpu_s(pid) - before) / (time.perf_counter() - began), load)


def _cpu_s(pid: int) -> float:
    # The demo tagger may be done by now, and its kernel gone.
    with suppress(OSError):
        return cpu_s(pid)
    return 0.0


def _linked(model: Path, target: Path) -> None:
    """The model among the studio's, without another copy of its bytes where that can be had."""
    target.mkdir(parents=True)
    for file in model.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy(file, target)


def _dataset(client: httpx.Client, pictures: list[Path]) -> str:
    made = client.post("/datasets", json={"name": "photographs"}).raise_for_status()
    dataset: str = made.json()["id"]
    for start in range(0, len(pictures), 20):
        files = [("file", (each.name, each.read_bytes())) for each in pictures[start : start + 20]]
        client.post(f"/datasets/{dataset}/images", files=files).raise_for_status()
    return dataset


def _thumbnails(client: httpx.Client, dataset: str) -> list[str]:
    """Their addresses, once all are made."""
    page = client.get(f"/datasets/{dataset}/images", params={"limit": _PAGE}).raise_for_status().json()
    found: list[str] = [item["thumbnail"] for item in page["items"]]
    for address in found:
        client.get(httpx.URL(f"http://{client.base_url.netloc.decode()}{address}")).raise_for_status()
    return found


def _tagging(client: httpx.Client, dataset: str, model: Path) -> str:
    settings: dict[str, Any] = {"model": {"path": str(model)}, "batch_size": 1}
    body = {"kind": "tag", "settings": settings, "source": {"dataset": dataset}}
    job: str = client.post("/jobs", json=body).raise_for_status().json()["id"]
    until(lambda: _has_begun(client.get(f"/jobs/{job}").json()), 60)
    return job


def _has_begun(job: dict[str, Any]) -> bool:
    if job["state"] == "failed":
        raise RuntimeError(job["error"])
    return job["state"] == "succeeded" or bool(job["progress"] and job["progress"]["phase"] == "tag")


def _kernel_pid(client: httpx.Client) -> int | None:
    lanes = client.get("/queue").json()["lanes"]
    return next((lane["kernel_pid"] for lane in lanes if lane.get("kernel_pid")), None)


def _address(studio: StudioProcess) -> tuple[str, int]:
    host, _, port = studio.url.removeprefix("http://").partition(":")
    return host, int(port)


def _requests(studio: StudioProcess, dataset: str, thumbnails: list[str]) -> Callable[[int], bytes]:
    """A page for every nine thumbnails, as a gallery asks."""
    host, port = _address(studio)
    headers = {"host": f"{host}:{port}", "authorization": f"Bearer {studio.token}"}
    page = request("GET", f"/api/v1/datasets/{dataset}/images?limit={_PAGE}", headers)
    small = [request("GET", each, headers) for each in thumbnails]
    return lambda number: page if number % 10 == 0 else small[number % len(small)]
