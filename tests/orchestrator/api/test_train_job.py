"""Training over HTTP with a real kernel and a small model: from a dataset to a LoRA among the models."""

import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from PIL import Image

from orchestrator.jobs.states import TERMINAL
from orchestrator.models.header import read_header
from orchestrator.serving.app import make_app
from orchestrator.studio import Studio, open_studio
from tests.orchestrator.cli.conftest import SHIPPED
from trainer.fixtures import write

pytestmark = pytest.mark.anyio

#: Seconds after which a wait has failed.
PATIENCE_S = 50.0


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single file of a small SD1.5."""
    return write("sd15", tmp_path_factory.mktemp("models")).file


@pytest.fixture
def model(studio: Studio, small_model: Path) -> str:
    """It, among the models of the studio; its name."""
    folder = studio.home / "models" / "checkpoints"
    folder.mkdir(parents=True)
    os.link(small_model, folder / "small.safetensors")
    return "small"


@pytest.fixture
async def dataset(client: httpx.AsyncClient) -> str:
    """Two photographs with captions; its id."""
    made = (await client.post("/datasets", json={"name": "Photographs"})).json()
    files: list[Any] = []
    for name in ("coffee", "chelsea"):
        files.append(("file", (f"{name}.png", (SHIPPED / f"{name}.png").read_bytes())))
        files.append(("file", (f"{name}.txt", f"a photograph of {name}".encode())))
    answer = await client.post(f"/datasets/{made['id']}/images", files=files)
    assert answer.status_code == 200, answer.text
    return str(made["id"])


def settings(name: str, steps: int, **tables: Any) -> dict[str, Any]:
    """Of a run of small steps; it begins at once, and makes no file on the way."""
    return {
        "model": {"base": name},
        "network": {"rank": 2},
        "data": {"resolution": 64, "buckets": {"min_side": 64}},
        "training": {"steps": steps},
        "saving": {"every_epochs": 0},
    } | tables


class Following:
    """The events of a job, as they come."""

    def __init__(self, studio: Studio, job_id: str, after: int) -> None:
        self._stream = studio.events.follow([f"job:{job_id}"], after)
        self._told = self._events()
        self.seen: list[tuple[str, dict[str, Any]]] = []

    async def until(self, is_there: Callable[[str, dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event from here on that is wanted."""
        with anyio.fail_after(PATIENCE_S):
            async for name, data in self._told:
                self.seen.append((name, data))
                assert data.get("state") != "failed", data
                if is_there(name, data):
                    return data
        raise AssertionError("the stream has ended")

    async def step(self, number: int) -> None:
        """Until so many steps are done."""
        await self.until(lambda name, data: name == "job.metrics" and data["samples"][-1]["step"] >= number)

    async def state(self, *wanted: str) -> dict[str, Any]:
        """Until the job is in one of these states."""
        return await self.until(lambda name, data: name == "job.changed" and data["state"] in wanted)

    async def made(self, role: str) -> dict[str, Any]:
        """The next file of a role."""
        data = await self.until(
            lambda name, data: name == "job.artifact" and data["artifact"]["role"] == role
        )
        made: dict[str, Any] = data["artifact"]
        return made

    async def _events(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        async with aclosing(self._stream) as stream:
            async for chunk in stream:
                for event in chunk.decode().split("\n\n"):
                    lines = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
                    if "event" in lines and "data" in lines:
                        yield lines["event"], json.loads(lines["data"])


async def started(client: httpx.AsyncClient, studio: Studio, **body: Any) -> tuple[str, Following]:
    """A new training, and its events."""
    response = await client.post("/jobs", json={"kind": "train"} | body)
    assert response.status_code == 202, response.text
    id = str(response.json()["id"])
    return id, Following(studio, id, response.json()["last_event_id"])


async def ended(client: httpx.AsyncClient, studio: Studio, id: str) -> dict[str, Any]:
    await studio.jobs.wait(id, lambda job: job.state in TERMINAL, PATIENCE_S)
    job: dict[str, Any] = await read(client, f"/jobs/{id}")
    return job


async def read(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def done(client: httpx.AsyncClient, path: str, body: Any = None) -> Any:
    """What a change answers."""
    answer = await client.post(path, json=body) if body is not None else await client.post(path)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def tensors(path: Path) -> bytes:
    """The bytes of a file of weights after its header, which has moments of time in it."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return raw[8 + length :]


async def test_a_dataset_becomes_a_lora_among_the_models(
    client: httpx.AsyncClient, studio: Studio, model: str, dataset: str
) -> None:
    tables = {
        "sampling": {"prompts": ["a cup --s 2", "a cat --s 2"], "every_steps": 2},
        "checkpoints": {"every_steps": 1, "keep_last": 1},
        "saving": {"every_epochs": 1},
    }
    body = {"settings": settings(model, 4, **tables), "source": {"dataset": dataset}}
    id, following = await started(client, studio, **body)
    await following.state("succeeded")
    job = await read(client, f"/jobs/{id}")
    assert (job["output"], job["lane"], job["outcome"]["steps"]) == ("Photographs", "cpu:run", 4)
    assert job["outcome"]["file"] == "outputs/Photographs.safetensors"
    assert str(studio.home) not in json.dumps(job["outcome"])

    made = {role: await _labels(client, id, role) for role in ("sample", "checkpoint", "lora_step", "lora")}
    assert [(each["step"], each["prompt_index"]) for each in made["sample"]] == [
        (0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1)
    ]  # fmt: skip
    assert made["checkpoint"] == [{"step": 4, "epoch": 2}]
    assert made["lora_step"] == [{"step": 2, "epoch": 1}]
    assert [each for each in made["lora"]] == [{"step": 4, "epoch": 2}]
    told = [data["artifact"] for name, data in following.seen if name == "job.artifact"]
    assert [each for each in told if each["role"] != "checkpoint"] == [
        each for each in job["artifacts"] if each["role"] != "checkpoint"
    ]
    sample = next(each for each in job["artifacts"] if each["role"] == "sample")
    picture = await client.get(f"/jobs/{id}/artifacts/{sample['number']}")
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(_file(picture.content)).size == (64, 64)
    lora = next(each for each in job["artifacts"] if each["role"] == "lora")
    file = await client.get(f"/jobs/{id}/artifacts/{lora['number']}")
    assert file.content == (studio.home / "outputs" / "Photographs.safetensors").read_bytes()

    series = {each["key"]: each for each in (await read(client, f"/jobs/{id}/metrics"))["series"]}
    assert {"loss", "loss_average", "lr_unet", "images_per_s", "data_wait", "epoch"} <= series.keys()
    assert all(each["steps"] == [1, 2, 3, 4] for each in series.values())
    shown = [each for name, data in following.seen if name == "job.metrics" for each in data["samples"]]
    assert [each["values"]["loss"] for each in shown] == series["loss"]["values"]
    later = (await read(client, f"/jobs/{id}/metrics", keys="loss", from_step=3))["series"]
    assert [each["steps"] for each in later] == [[3, 4]]

    models = (await read(client, "/models", kind="lora"))["items"]
    assert [(each["name"], each["family"], each["root"]) for each in models] == [
        ("Photographs", "sd15", "outputs"),
        ("Photographs-000001", "sd15", "outputs"),
    ]
    header = read_header(str(studio.home / "outputs" / "Photographs.safetensors"))
    assert header.metadata["ss_steps"] == "4"
    again = await client.post("/jobs", json={"kind": "train"} | body)
    assert again.json()["output"] == "Photographs-2"
    await done(client, f"/jobs/{again.json()['id']}/cancel")


async def _labels(client: httpx.AsyncClient, id: str, role: str) -> list[dict[str, int]]:
    return [each["labels"] for each in (await read(client, f"/jobs/{id}/artifacts", role=role))["items"]]


def _file(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


async def test_a_running_training_takes_orders(
    client: httpx.AsyncClient, studio: Studio, model: str, dataset: str
) -> None:
    tables = {"sampling": {"prompts": ["a cup --s 1"], "every_steps": 10**6, "at_start": False}}
    body = {"settings": settings(model, 10**6, **tables), "source": {"dataset": dataset}}
    id, following = await started(client, studio, **body)
    await following.step(1)
    await done(client, f"/jobs/{id}/actions", {"action": "sample_now"})
    sample = await following.made("sample")
    assert sample["labels"]["prompt_index"] == 0 and sample["labels"]["step"] >= 1
    await done(client, f"/jobs/{id}/actions", {"action": "save_now"})
    checkpoint = await following.made("checkpoint")
    assert checkpoint["labels"]["step"] >= sample["labels"]["step"]
    unknown = await client.post(f"/jobs/{id}/actions", json={"action": "dance"})
    assert unknown.status_code == 422
    assert [each["pointer"] for each in unknown.json()["errors"]] == ["#/action"]
    await done(client, f"/jobs/{id}/actions", {"action": "stop_after_epoch"})
    job = await ended(client, studio, id)
    assert (job["state"], job["outcome"]["stopped_early"]) == ("succeeded", True)
    assert job["outcome"]["steps"] % 2 == 0
    late = await client.post(f"/jobs/{id}/actions", json={"action": "save_now"})
    assert (late.status_code, late.json()["code"]) == (409, "state_conflict")


async def test_a_training_that_was_paused_and_canceled_ends_as_if_it_had_not_been(
    client: httpx.AsyncClient, studio: Studio, model: str, dataset: str
) -> None:
    steps = 20
    body: dict[str, Any] = {"settings": settings(model, steps), "source": {"dataset": dataset}}
    straight, following = await started(client, studio, **body, output="straight")
    id, disturbed = await started(client, studio, **body, output="disturbed")
    await following.state("succeeded")

    await disturbed.step(3)
    await done(client, f"/jobs/{id}/pause")
    assert (await disturbed.state("paused"))["resumable"]
    view = await read(client, f"/jobs/{id}")
    at = view["outcome"]["steps"]
    assert 3 <= at < steps and view["outcome"]["file"] is None
    assert [each["step"] for each in await _labels(client, id, "checkpoint")] == [at]
    assert not (studio.home / "outputs" / "disturbed.safetensors").exists()

    await done(client, f"/jobs/{id}/resume")
    await disturbed.step(at + 1)
    await done(client, f"/jobs/{id}/cancel")
    await disturbed.state("canceled")
    await done(client, f"/jobs/{id}/retry")
    assert (await disturbed.state("succeeded"))["attempt"] == 3
    outputs = studio.home / "outputs"
    assert tensors(outputs / "disturbed.safetensors") == tensors(outputs / "straight.safetensors")
    for key in ("loss", "lr_unet"):
        one, other = [
            (await read(client, f"/jobs/{each}/metrics", keys=key))["series"] for each in (straight, id)
        ]
        assert one == other
        assert one[0]["steps"] == list(range(1, steps + 1))


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")
async def test_a_training_whose_kernel_is_killed_goes_on_from_its_last_checkpoint(
    client: httpx.AsyncClient, studio: Studio, model: str, dataset: str
) -> None:
    chosen = settings(model, 10**6, checkpoints={"every_steps": 4})
    id, following = await started(client, studio, settings=chosen, source={"dataset": dataset})
    checkpoint = await following.made("checkpoint")
    (lane,) = [each for each in (await read(client, "/queue"))["lanes"] if each["job_ids"] == [id]]
    os.kill(lane["kernel_pid"], signal.SIGKILL)
    killed = await following.state("interrupted")
    assert (killed["reason"], killed["attempt"]) == ("kernel_died", 1)
    data = await following.until(lambda name, data: name == "job.metrics" and data["attempt"] == 2)
    first = data["samples"][0]["step"]
    assert first > checkpoint["labels"]["step"] and first % 4 == 1
    await done(client, f"/jobs/{id}/cancel")
    await following.state("canceled")
    (series,) = (await read(client, f"/jobs/{id}/metrics", keys="loss"))["series"]
    assert series["steps"] == list(range(1, series["steps"][-1] + 1))


async def test_another_job_goes_on_from_a_checkpoint_for_longer(
    client: httpx.AsyncClient, studio: Studio, model: str, dataset: str
) -> None:
    source = {"dataset": dataset}
    chosen = settings(model, 6, schedule={"type": "constant"}, checkpoints={"every_steps": 2})
    id, following = await started(client, studio, settings=chosen, source=source, output="short")
    await following.state("succeeded")
    checkpoint = (await read(client, f"/jobs/{id}/artifacts", role="checkpoint"))["items"][0]
    assert checkpoint["labels"]["step"] == 4
    image = (await read(client, f"/datasets/{dataset}/images"))["items"][0]
    caption = f"/datasets/{dataset}/images/{image['id']}/captions/tags"
    was = await client.get(caption)
    await client.put(caption, json={"text": "another"}, headers={"if-match": was.headers["etag"]})

    changes = {"settings": {"training": {"steps": 9}}, "checkpoint": checkpoint["number"]}
    longer = await done(client, f"/jobs/{id}/rerun", changes)
    assert (longer["output"], longer["parent_id"]) == ("short-2", id)
    assert longer["source"]["checkpoint"] == {"job": id, "artifact": checkpoint["number"]}
    job = await ended(client, studio, longer["id"])
    assert (job["state"], job["outcome"]["steps"]) == ("succeeded", 9), job["error"]
    (series,) = (await read(client, f"/jobs/{longer['id']}/metrics", keys="loss"))["series"]
    assert series["steps"] == [5, 6, 7, 8, 9]

    other = {"settings": {"network": {"rank": 4}}, "checkpoint": checkpoint["number"]}
    job = await ended(client, studio, (await done(client, f"/jobs/{id}/rerun", other))["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "invalid_params")
    assert "rank" in job["error"]["detail"]
    for wrong in (1000, next(each["number"] for each in (await _artifacts(client, id, "lora")))):
        answer = await client.post(f"/jobs/{id}/rerun", json={"checkpoint": wrong})
        assert [each["pointer"] for each in answer.json()["errors"]] == ["#/source/checkpoint"]


async def _artifacts(client: httpx.AsyncClient, id: str, role: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await read(client, f"/jobs/{id}/artifacts", role=role))["items"]
    return items


async def test_a_studio_that_is_stopped_goes_on_with_its_training_at_the_next_start(
    tmp_path: Path, small_model: Path
) -> None:
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    os.link(small_model, home / "models" / "small.safetensors")
    folder = home / "datasets" / "10_cup"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), "brown").save(folder / "a.png")
    source = {"folders": [{"root": "datasets", "path": "10_cup"}]}
    chosen = settings("small", 10**6)
    async with open_studio(home) as studio, _client(studio) as client:
        id, following = await started(client, studio, settings=chosen, source=source)
        await following.step(3)
    async with open_studio(home) as studio, _client(studio) as client:
        job = await read(client, f"/jobs/{id}")
        assert (job["output"], job["attempt"]) == ("cup", 2)
        following = Following(studio, id, job["last_event_id"])
        data = await following.until(lambda name, data: name == "job.metrics")
        # A checkpoint was written where it was stopped.
        (loss,) = (await read(client, f"/jobs/{id}/metrics", keys="loss", from_step=3))["series"]
        assert data["samples"][0]["step"] > 3 and loss["steps"][0] == 3
        await done(client, f"/jobs/{id}/cancel")
        await done(client, f"/jobs/{id}/cancel?mode=now")
        await following.state("canceled")


def _client(studio: Studio) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(studio))
    return httpx.AsyncClient(transport=transport, base_url="http://studio/api/v1")


async def test_what_is_wrong_is_said_before_the_first_step(
    client: httpx.AsyncClient, studio: Studio, model: str, dataset: str
) -> None:
    async def wrong(**body: Any) -> dict[str, str]:
        response = await client.post("/jobs", json={"kind": "train"} | body)
        assert response.status_code == 422, response.text
        return {each["pointer"]: each["detail"] for each in response.json()["errors"]}

    source = {"dataset": dataset}
    assert list(await wrong(settings=settings("nothing", 1), source=source)) == ["#/settings/model/base"]
    both = {"steps": 1, "epochs": 1}
    assert list(await wrong(settings=settings(model, 1, training=both), source=source)) == [
        "#/settings/training/steps"
    ]
    assert list(await wrong(settings=settings(model, 1))) == ["#/source"]
    files = {"files": [{"root": "datasets", "path": "photographs/coffee.png"}]}
    assert list(await wrong(settings=settings(model, 1), source=files)) == ["#/source/files"]
    folders = {"folders": [{"root": "datasets", "path": path} for path in ("photographs", "no", "../x")]}
    assert list(await wrong(settings=settings(model, 1), source=folders)) == [
        "#/source/folders/1",
        "#/source/folders/2",
    ]
    outside = settings(model, 1, sampling={"file": "/etc/hostname", "every_steps": 1})
    assert list(await wrong(settings=outside, source=source)) == ["#/settings/sampling/file"]
    family = settings(model, 1, model={"base": model, "family": "sdxl"})
    id, _ = await started(client, studio, settings=family, source=source)
    job = await ended(client, studio, id)
    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert job["error"]["code"] == "weights_mismatch"
