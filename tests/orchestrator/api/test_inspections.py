"""Looking into files of weights over HTTP, on a kernel that jobs do not hold up."""

import hashlib
import os
import sys
from pathlib import Path

import httpx
import pytest

from contract.errors import KernelTimeout
from orchestrator.models import inspector
from orchestrator.settings import KernelSettings, Settings, save
from orchestrator.studio import Studio, open_studio
from tests.orchestrator.api.test_surgery_jobs import LORA
from tests.orchestrator.models.files import write_model
from tests.orchestrator.traversal import PAYLOADS, plant

pytestmark = pytest.mark.anyio

_METADATA = {"ss_base_model_version": "sd_v1", "ss_network_dim": "4"}


async def test_a_model_is_looked_into_by_its_id(client: httpx.AsyncClient, studio: Studio) -> None:
    path = write_model(studio.home / "models" / "loras" / "ink.safetensors", LORA, _METADATA)
    (model,) = (await client.get("/models", params={"q": "ink"})).json()["items"]
    response = await client.post(f"/models/{model['id']}/inspection")
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["file"], found["kind"], found["family"]) == ("models/loras/ink.safetensors", "lora", "sd15")
    assert found["hashes"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["adapter"]["ranks"] == {"4": 2}
    short = await client.post(f"/models/{model['id']}/inspection", params={"hashes": "false", "norms": "0"})
    assert short.json()["hashes"] is None
    assert (await client.post(f"/models/model_{'0' * 24}/inspection")).status_code == 404
    wrong = await client.post(f"/models/{model['id']}/inspection", params={"hashes": "perhaps"})
    assert wrong.status_code == 422


async def test_any_file_below_a_root_is_looked_into(
    client: httpx.AsyncClient, studio: Studio, tmp_path: Path
) -> None:
    write_model(tmp_path / "mine" / "deep" / "ink.safetensors", LORA)
    roots = [{"id": "mine", "path": str(tmp_path / "mine")}]
    await studio.settings.change({"roots": roots}, studio.settings.etag)
    query = {"root": "mine", "path": "deep/ink.safetensors", "norms": "false"}
    found = (await client.post("/inspection", params=query)).json()
    assert (found["file"], found["kind"], found["tensors"]) == ("mine/deep/ink.safetensors", "lora", 6)
    for path, code in (
        ("deep/no.safetensors", "file_missing"),
        ("../mine/deep/ink.safetensors", "path_outside_roots"),
        ("deep", "file_unreadable"),
    ):
        refused = await client.post("/inspection", params=query | {"path": path})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    unknown = await client.post("/inspection", params=query | {"root": "nobodys"})
    assert unknown.status_code == 422


def _outside(folder: Path, paths: list[str]) -> list[str]:
    """Those that are not in the folder, their links followed."""
    root = os.path.realpath(folder) + os.sep
    return [path for path in paths if not os.path.realpath(path).startswith(root)]


async def test_no_path_leads_out_of_a_root(
    client: httpx.AsyncClient, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(studio.home / "models")
    looked: list[str] = []

    async def look(path: str, **options: bool) -> None:
        looked.append(path)
        raise KernelTimeout("not looked into")

    monkeypatch.setattr(studio.inspector, "inspect", look)
    folder = studio.home / "models"
    for payload in PAYLOADS:
        answer = await client.post("/inspection", params={"root": "models", "path": payload})
        assert answer.status_code in (422, 503), payload
        body = {"kind": "resize", "settings": {}, "source": {"files": [{"root": "models", "path": payload}]}}
        job = await client.post("/jobs", json=body)
        if job.status_code != 422:
            looked.append(str(folder / payload))
    assert _outside(folder, looked) == []


async def test_what_is_no_model_is_a_problem_with_its_reason(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    folder = studio.home / "models"
    folder.mkdir(parents=True)
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    whole = write_model(folder / "whole.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    for name, code in (("old.ckpt", "weights_format"), ("cut.safetensors", "weights_damaged")):
        refused = await client.post("/inspection", params={"root": "models", "path": name})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
        assert refused.json()["hint"]
        assert refused.json()["where"] == f"models/{name}"
        assert str(studio.home) not in refused.text


async def test_it_works_while_a_job_has_the_lane(client: httpx.AsyncClient, studio: Studio) -> None:
    write_model(studio.home / "models" / "large.safetensors", {"x": ("U8", [2 << 30])})
    write_model(studio.home / "models" / "ink.safetensors", LORA)
    source = {"files": [{"root": "models", "path": "large.safetensors"}]}
    body = {"kind": "metadata", "settings": {"set": {"a": "b"}}, "source": source, "output": "copy"}
    id = (await client.post("/jobs", json=body)).json()["id"]
    await studio.jobs.wait(id, lambda job: job.state == "running", 30)
    query = {"root": "models", "path": "ink.safetensors", "norms": "false"}
    assert (await client.post("/inspection", params=query)).status_code == 200
    job = await studio.jobs.cancel(id)
    assert job.state == "canceling"
    await studio.jobs.wait(id, lambda job: job.state == "canceled", 30)
    assert not list((studio.home / "outputs").iterdir())


async def test_a_kernel_that_does_not_answer_ends_the_look_and_not_the_studio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    save(home, Settings(kernel=KernelSettings(command=silent)))
    monkeypatch.setattr(inspector, "LOOK_S", 0.5)
    path = write_model(home / "models" / "a.safetensors")
    async with open_studio(home, devices=()) as studio:
        with pytest.raises(KernelTimeout):
            await studio.inspector.inspect(str(path), hashes=False, norms=False)


async def test_without_a_running_studio_nobody_looks(tmp_path: Path) -> None:
    async with open_studio(tmp_path / "home", run=False) as studio:
        with pytest.raises(Exception, match="No studio runs"):
            await studio.inspector.inspect("/a", hashes=False, norms=False)
