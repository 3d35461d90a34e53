"""Models and the trash over HTTP."""

import httpx
import pytest

from orchestrator.studio import Studio
from tests.orchestrator.models.files import write_model

pytestmark = pytest.mark.anyio

_LORA = {"lora_unet_x.lora_down.weight": ("F16", [4, 4])}


@pytest.fixture
def some_models(studio: Studio) -> list[str]:
    """Names of models in our own folder, as they are listed, among them the tagger of the kernel."""
    folder = studio.home / "models"
    for number in range(5):
        write_model(folder / "loras" / f"ink-{number}.safetensors", _LORA, {"ss_base_model_version": "sd_v1"})
    write_model(folder / "checkpoints" / "Base.safetensors")
    (folder / "checkpoints" / "old.ckpt").write_bytes(b"pickle")
    return ["Base", "demo-tagger", "ink-0", "ink-1", "ink-2", "ink-3", "ink-4", "old"]


async def _names(client: httpx.AsyncClient, **query: str) -> list[str]:
    page = (await client.get("/models", params=query)).json()
    assert page["total"] == len(page["items"])
    return [each["name"] for each in page["items"]]


async def _id(client: httpx.AsyncClient, name: str) -> str:
    (model,) = (await client.get("/models", params={"q": name})).json()["items"]
    return str(model["id"])


async def test_models_are_listed_by_name_and_can_be_narrowed(
    client: httpx.AsyncClient, some_models: list[str]
) -> None:
    assert await _names(client) == some_models
    assert await _names(client, kind="checkpoint") == ["Base", "old"]
    assert await _names(client, family="sd15", q="INK-3") == ["ink-3"]
    assert (await client.get("/models", params={"kind": "nonsense"})).status_code == 422


async def test_a_long_list_comes_in_pages(client: httpx.AsyncClient, some_models: list[str]) -> None:
    names: list[str] = []
    query = {"limit": "3"}
    for _ in range(3):
        page = (await client.get("/models", params=query)).json()
        assert page["total"] == len(some_models)
        names += [each["name"] for each in page["items"]]
        query["cursor"] = page["next_cursor"] or ""
    assert names == some_models and page["next_cursor"] is None
    assert (await client.get("/models", params={"cursor": "nonsense"})).status_code == 422


async def test_a_model_is_read_by_its_id(client: httpx.AsyncClient, some_models: list[str]) -> None:
    model = (await client.get(f"/models/{await _id(client, 'old')}")).json()
    assert (model["kind"], model["loadable"]) == ("checkpoint", False)
    assert "Convert it to safetensors" in model["reason"]
    for name in ("model_000000000000000000000000", "nonsense", "..%2fx", "rescan"):
        assert (await client.get(f"/models/{name}")).status_code == 404


async def test_a_model_goes_to_the_trash_and_comes_back(
    client: httpx.AsyncClient, studio: Studio, some_models: list[str]
) -> None:
    model_id = await _id(client, "ink-2")
    trashed = (await client.delete(f"/models/{model_id}")).json()
    assert (trashed["name"], trashed["root"]) == ("ink-2", "models")
    assert "ink-2" not in await _names(client)
    assert (await client.delete(f"/models/{model_id}")).status_code == 404
    page = (await client.get("/trash")).json()
    assert page == {"items": [trashed], "next_cursor": None, "total": 1}
    write_model(studio.home / "models" / "loras" / "ink-2.safetensors")
    taken = await client.post(f"/trash/{trashed['id']}/restore")
    assert (taken.status_code, taken.json()["code"]) == (409, "state_conflict")
    (studio.home / "models" / "loras" / "ink-2.safetensors").unlink()
    assert (await client.post(f"/trash/{trashed['id']}/restore")).json() == trashed
    assert await _id(client, "ink-2") == model_id
    assert (await client.post(f"/trash/{trashed['id']}/restore")).status_code == 404


async def test_the_tagger_of_the_kernel_cannot_be_deleted(client: httpx.AsyncClient) -> None:
    refused = await client.delete("/models/model_demo_tagger")
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")


async def test_the_trash_comes_in_pages_the_newest_first_and_can_be_emptied(
    client: httpx.AsyncClient, some_models: list[str]
) -> None:
    ids = [
        (await client.delete(f"/models/{await _id(client, name)}")).json()["id"]
        for name in ("ink-0", "ink-1", "ink-2")
    ]
    first = (await client.get("/trash", params={"limit": 2})).json()
    rest = (await client.get("/trash", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    shown = [each["id"] for each in first["items"] + rest["items"]]
    assert shown == sorted(ids, reverse=True) and rest["next_cursor"] is None and rest["total"] == 3
    for each in ids:
        assert (await client.delete(f"/trash/{each}")).status_code == 204
    assert (await client.get("/trash")).json()["total"] == 0
    assert (await client.delete(f"/trash/{ids[0]}")).status_code == 404
    assert (await client.delete("/trash/nonsense")).status_code == 404


async def test_looking_again_says_how_many_there_are(
    client: httpx.AsyncClient, studio: Studio, some_models: list[str]
) -> None:
    assert (await client.post("/models/rescan")).json() == {"total": len(some_models)}
    write_model(studio.home / "models" / "loras" / "new.safetensors")
    assert (await client.post("/models/rescan")).json() == {"total": len(some_models) + 1}
