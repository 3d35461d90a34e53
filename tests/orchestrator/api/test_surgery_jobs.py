"""Surgery over HTTP with a real kernel: what a job may name, what it makes, what the next one makes of it."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file

from orchestrator.jobs.states import TERMINAL
from orchestrator.models.header import read_header
from orchestrator.studio import Studio
from tests.builders import adapters, checkpoints
from tests.orchestrator.models.files import Tensors, write_model

pytestmark = pytest.mark.anyio

#: Two modules of a LoRA for SD1.5, of rank 4.
LORA: Tensors = {
    f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_{each}.{part}": ("F32", shape)
    for each in "qk"
    for part, shape in (
        ("lora_up.weight", [320, 4]),
        ("lora_down.weight", [4, 320]),
        ("alpha", []),
    )
}


async def ended(client: httpx.AsyncClient, studio: Studio, **body: Any) -> dict[str, Any]:
    """A job at its end."""
    response = await client.post("/jobs", json=body)
    assert response.status_code == 202, response.text
    id = response.json()["id"]
    await studio.jobs.wait(id, lambda job: job.state in TERMINAL, 30)
    job: dict[str, Any] = (await client.get(f"/jobs/{id}")).json()
    return job


async def done(client: httpx.AsyncClient, studio: Studio, **body: Any) -> dict[str, Any]:
    """A job that went well."""
    job = await ended(client, studio, **body)
    assert job["state"] == "succeeded", job
    return job


async def wrong(client: httpx.AsyncClient, **body: Any) -> dict[str, str]:
    """What is refused of a job, by its place."""
    response = await client.post("/jobs", json=body)
    assert response.status_code == 422, response.text
    return {each["pointer"]: each["detail"] for each in response.json()["errors"]}


def files(root: str, *paths: str) -> dict[str, Any]:
    return {"files": [{"root": root, "path": path} for path in paths]}


async def test_metadata_is_changed_in_its_place_or_in_a_copy(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    path = write_model(studio.home / "models" / "loras" / "a.safetensors", metadata={"ss_a": "1", "b": "2"})
    settings = {"set": {"modelspec.title": "A"}, "remove": ["ss_*"]}
    body: dict[str, Any] = {
        "kind": "metadata",
        "settings": settings,
        "source": files("models", "loras/a.safetensors"),
    }
    copied = await done(client, studio, **body, output="sub/copy.safetensors")
    copy = studio.home / "outputs" / "sub" / "copy.safetensors"
    assert read_header(str(copy)).metadata == {"b": "2", "modelspec.title": "A"}
    assert read_header(str(path)).metadata == {"ss_a": "1", "b": "2"}
    assert (copied["output"], copied["name"]) == ("sub/copy", "sub/copy")
    assert copied["outcome"]["file"] == "outputs/sub/copy.safetensors"
    assert (copied["outcome"]["added"], copied["outcome"]["removed"]) == (["modelspec.title"], ["ss_a"])
    (artifact,) = copied["artifacts"]
    assert (artifact["name"], artifact["size_bytes"]) == ("copy.safetensors", copy.stat().st_size)
    answer = await client.get(f"/jobs/{copied['id']}/artifacts/{artifact['number']}")
    assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"] == copied["outcome"]["sha256"]

    changed = await done(client, studio, **body)
    assert read_header(str(path)).metadata == {"b": "2", "modelspec.title": "A"}
    assert (changed["output"], changed["outcome"]["file"]) == (None, "models/loras/a.safetensors")
    assert changed["name"] == "Edit metadata: a"
    (model,) = (await client.get("/models", params={"q": "a.safetensors"})).json()["items"]
    assert model["title"] == "A"


async def test_what_a_job_made_is_a_model_that_the_next_one_can_work_on(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    write_model(studio.home / "models" / "a.safetensors", LORA)
    settings = {"set": {"a": "b"}}
    source = files("models", "a.safetensors")
    for name in ("first", "first-2"):
        job = await done(client, studio, kind="metadata", settings=settings, source=source, output="first")
        assert job["output"] == name
    made = (await client.get("/models", params={"q": "first"})).json()["items"]
    assert [(each["root"], each["path"], each["kind"]) for each in made] == [
        ("outputs", "first.safetensors", "lora"),
        ("outputs", "first-2.safetensors", "lora"),
    ]
    next_source = files("outputs", "first.safetensors")
    await done(client, studio, kind="metadata", settings=settings, source=next_source, output="second")
    assert (studio.home / "outputs" / "second.safetensors").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege on Windows")
async def test_models_of_other_programs_are_read_and_not_changed(
    client: httpx.AsyncClient, studio: Studio, tmp_path: Path
) -> None:
    theirs = tmp_path / "ComfyUI" / "models" / "loras"
    write_model(theirs / "a.safetensors")
    elsewhere = write_model(tmp_path / "elsewhere" / "b.safetensors")
    (theirs / "b.safetensors").symlink_to(elsewhere)
    folder = {"path": str(tmp_path / "ComfyUI"), "layout": "comfyui"}
    await studio.settings.change({"model_folders": [folder]}, studio.settings.etag)
    models = (await client.get("/models", params={"kind": "lora"})).json()["items"]
    assert [each["is_link"] for each in models] == [False, True]
    settings = {"set": {"a": "b"}}
    for model in models:
        source = files(model["root"], model["path"])
        refused = await wrong(client, kind="metadata", settings=settings, source=source)
        assert list(refused) == ["#/source/files/0"]
        assert "name it with `output`" in refused["#/source/files/0"]
        await done(client, studio, kind="metadata", settings=settings, source=source, output=model["name"])
    assert read_header(str(elsewhere)).metadata == {}
    assert read_header(str(studio.home / "outputs" / "b.safetensors")).metadata == {"a": "b"}


async def test_models_are_named_by_their_ids_in_a_merge_and_its_output_is_resized(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    metadata = {"ss_base_model_version": "sd_v1"}
    module = next(iter(LORA)).removesuffix(".lora_up.weight")
    (studio.home / "models").mkdir(parents=True)
    for seed, name in enumerate("ab"):
        tensors = adapters.lora(module, (320, 320), 4, seed=seed)
        adapters.write(studio.home / "models" / f"{name}.safetensors", tensors, metadata)
    ids = {each["name"]: each["id"] for each in (await client.get("/models")).json()["items"]}
    loras = [{"model": ids["a"], "weight": 0.5}, {"model": {"path": ids["b"]}}]
    merged = await done(client, studio, kind="merge", settings={"type": "loras", "loras": loras})
    assert (merged["output"], merged["name"]) == ("a-concat", "a-concat")
    assert [each["file"] for each in merged["outcome"]["inputs"]] == [
        "models/a.safetensors",
        "models/b.safetensors",
    ]
    assert [each["rank"] for each in merged["outcome"]["modules"]] == [8]
    source = files("outputs", "a-concat.safetensors")
    resized = await done(client, studio, kind="resize", settings={"rank": 2}, source=source)
    assert resized["output"] == "a-concat-rank2"
    header = read_header(str(studio.home / "outputs" / "a-concat-rank2.safetensors"))
    assert {tensor.shape[0] for name, tensor in header.tensors.items() if "lora_down" in name} == {2}
    again = await client.post(f"/jobs/{resized['id']}/rerun", json={"settings": {"rank": 1}})
    assert again.json()["settings"]["rank"] == 1
    assert again.json()["output"] == "a-concat-rank2-2"


async def test_every_kind_of_merge_is_a_job(client: httpx.AsyncClient, studio: Studio) -> None:
    folder = studio.home / "models"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("base", "other")):
        tensors = checkpoints.sd15(seed, dtype=torch.float32, vae=False)
        checkpoints.write(folder / f"{name}.safetensors", tensors)
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = adapters.lora(module, (32, 32), 4, alpha=2)
    adapters.write(folder / "lora.safetensors", lora, {"ss_base_model_version": "sd_v1"})
    base, other, small = ({"path": str(folder / f"{x}.safetensors")} for x in ("base", "other", "lora"))

    async def made(name: str, **settings: object) -> dict[str, torch.Tensor]:
        await done(client, studio, kind="merge", settings=settings, output=name)
        return load_file(studio.home / "outputs" / f"{name}.safetensors")

    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    first, second = (load_file(each["path"])[key].double() for each in (base, other))
    models = [{"model": base, "weight": 0.25}, {"model": other, "weight": 0.75}]
    mixed = await made("mixed", type="checkpoints", models=models)
    assert torch.allclose(mixed[key].double(), 0.25 * first + 0.75 * second, atol=1e-6)
    (job,) = (await client.get("/jobs", params={"q": "mixed"})).json()["items"]
    (artifact,) = (await client.get(f"/jobs/{job['id']}/artifacts")).json()["items"]
    assert (artifact["role"], artifact["name"]) == ("checkpoint", "mixed.safetensors")
    refused = await client.post(f"/jobs/{job['id']}/rerun", json={"checkpoint": artifact["number"]})
    assert [each["pointer"] for each in refused.json()["errors"]] == ["#/checkpoint"]
    baked = await made("baked", type="bake", model=base, loras=[{"model": small}])
    delta = adapters.dense(lora, module)
    assert torch.allclose(baked[key].double(), first + delta, atol=1e-6)
    tuned = {"path": str(studio.home / "outputs" / "baked.safetensors")}
    taken = await made("taken", type="extract", tuned=tuned, base=base, rank=4, dtype="fp32")
    assert torch.allclose(adapters.dense(taken, module), delta, atol=1e-5)
    steps = {"end": {"method": "weighted_sum", "inputs": ["a", "b"], "weights": [0.25, 0.75]}}
    recipe = {"type": "recipe", "models": {"a": base, "b": other}, "steps": steps, "output": "end"}
    again = await made("again", **recipe)
    assert all(torch.equal(again[name], tensor) for name, tensor in mixed.items())


async def test_everything_that_is_wrong_with_a_job_is_named_at_once(
    client: httpx.AsyncClient, studio: Studio, tmp_path: Path
) -> None:
    write_model(studio.home / "models" / "a.safetensors")
    outside = write_model(tmp_path / "outside.safetensors")
    model = str(studio.home / "models" / "a.safetensors")
    loras = [{"model": model}, {"model": {"path": str(outside)}}, {"model": model, "weight": 101}]
    assert await wrong(client, kind="merge", settings={"type": "loras", "loras": loras}) == {
        "#/settings/loras/2/weight": "expected `float` <= 100.0"
    }
    assert list(await wrong(client, kind="merge", settings={"type": "loras", "loras": loras[:2]})) == [
        "#/settings/loras/1/model/path"
    ]
    named = {"type": "bake", "model": "model_" + "0" * 24, "loras": [{"model": "b.safetensors"}]}
    assert list(await wrong(client, kind="merge", settings=named)) == [
        "#/settings/model",
        "#/settings/loras/0/model",
    ]
    assert await wrong(client, kind="merge", settings={}) == {"#/settings/type": "is required"}
    two = files("models", "a.safetensors", "a.safetensors")
    assert await wrong(client, kind="resize", settings={}, source=two) == {
        "#/source/files": "`resize` takes 1 at a time"
    }
    assert list(await wrong(client, kind="resize", settings={})) == ["#/source"]
    assert list(
        await wrong(client, kind="resize", settings={}, source=files("models", "no.safetensors"))
    ) == ["#/source/files/0"]
    merge = {"type": "loras", "loras": loras[:1]}
    assert list(await wrong(client, kind="merge", settings=merge, source=two)) == ["#/source/files"]


async def test_a_file_that_is_no_model_of_that_kind_fails_with_its_reason(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    (studio.home / "models").mkdir(parents=True)
    (studio.home / "models" / "a.safetensors").write_bytes(b"PK\x03\x04 and so on, a pickle")
    source = files("models", "a.safetensors")
    job = await ended(client, studio, kind="metadata", settings={"strip_paths": True}, source=source)
    assert (job["state"], job["error"]["code"]) == ("failed", "weights_format")
    assert "Convert it" in job["error"]["hint"]
    assert not list((studio.home / "models").glob(".*"))


async def test_a_file_that_came_meanwhile_is_not_overwritten(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    write_model(studio.home / "models" / "a.safetensors")
    await studio.queue.pause(True)
    body = {"kind": "metadata", "settings": {"set": {"a": "b"}}, "output": "mine"}
    response = await client.post("/jobs", json=body | {"source": files("models", "a.safetensors")})
    mine = studio.home / "outputs" / "mine.safetensors"
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"of somebody")
    await studio.queue.pause(False)
    job = await studio.jobs.wait(response.json()["id"], lambda each: each.state in TERMINAL, 30)
    assert job.error is not None and job.error["data"]["kind"] == "output_exists"
    assert mine.read_bytes() == b"of somebody"
    retried = await client.post(f"/jobs/{job.id}/retry")
    assert retried.status_code == 202
    again = await studio.jobs.wait(job.id, lambda each: each.state in TERMINAL and each.attempt == 2, 30)
    assert again.state == "failed"
    assert mine.read_bytes() == b"of somebody"
    os.unlink(mine)
    await client.post(f"/jobs/{job.id}/retry")
    third = await studio.jobs.wait(job.id, lambda each: each.state in TERMINAL and each.attempt == 3, 30)
    assert third.state == "succeeded"


async def test_kinds_say_what_their_settings_are(client: httpx.AsyncClient) -> None:
    kinds = {each["name"]: each for each in (await client.get("/job-kinds")).json()["items"]}
    merge, resize, metadata = (kinds[name] for name in ("merge", "resize", "metadata"))
    mapping = merge["settings"]["discriminator"]["mapping"]
    assert list(mapping) == list(merge["defaults"]) == ["loras", "checkpoints", "bake", "extract", "recipe"]
    assert (merge["sources"], merge["ending"]) == ([], ".safetensors")
    assert (resize["sources"], resize["max_files"], resize["lane"]) == (["files"], 1, "cpu")
    assert (resize["prefers_device"], metadata["prefers_device"]) == (True, False)
    assert resize["defaults"]["rank"] == 16
    assert json.dumps(merge["settings"]).count('"$ref"') > 5


async def test_presets_hold_a_part_of_a_union(client: httpx.AsyncClient) -> None:
    async def made(kind: str, settings: Any) -> dict[str, str]:
        body = {"kind": kind, "name": f"{kind}-{json.dumps(settings)}"[:200], "settings": settings}
        response = await client.post("/presets", json=body)
        return {each["pointer"]: each["detail"] for each in response.json().get("errors", ())}

    assert await made("merge", {"dtype": "fp16"}) == {}
    assert await made("merge", {"type": "bake", "model": "model_x", "dtype": "bf16"}) == {}
    assert await made("merge", {"type": "checkpoints", "method": "triple_sum", "alpha": 0.3}) == {}
    assert await made("resize", {"method": "sv_fro"}) == {}
    assert await made("merge", {"type": "bake", "alpha": 1}) == {"#/settings/alpha": "is not a known field"}
    assert list(await made("merge", {"type": "mix"})) == ["#/settings/type"]
    assert list(await made("merge", {"dtype": "fp12", "method": "svd"})) == ["#/settings/dtype"]
    assert list(await made("resize", {"rank": 0})) == ["#/settings/rank"]


async def test_what_an_attempt_left_behind_that_was_cut_off_is_in_nobodys_way(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    write_model(studio.home / "models" / "a.safetensors")
    await studio.queue.pause(True)
    body = {"kind": "metadata", "settings": {"set": {"a": "b"}}, "output": "mine"}
    response = await client.post("/jobs", json=body | {"source": files("models", "a.safetensors")})
    id = response.json()["id"]
    # As after a studio that died when its kernel was done: the file is there, and nobody has heard of it.
    (studio.home / "runs" / id).mkdir(parents=True)
    (studio.home / "runs" / id / "output-was-free").touch()
    left = write_model(studio.home / "outputs" / "mine.safetensors", metadata={"of": "an attempt"})
    await studio.queue.pause(False)
    job = await studio.jobs.wait(id, lambda each: each.state in TERMINAL, 30)
    assert job.state == "succeeded"
    assert read_header(str(left)).metadata == {"a": "b"}
    (trashed,) = (await client.get("/trash")).json()["items"]
    assert (trashed["root"], trashed["path"]) == ("outputs", "mine.safetensors")
