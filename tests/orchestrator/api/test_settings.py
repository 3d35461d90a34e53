"""Settings and keys over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import keyring
import pytest
from keyring.backends.fail import Keyring as NoKeyring

from orchestrator.studio import Studio

pytestmark = pytest.mark.anyio

_TOKEN = "hf_CanaryOverHttp8642"


@pytest.fixture(autouse=True)
def no_keyring() -> Iterator[None]:
    """Whatever this machine has, no test of ours may touch it."""
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


async def _etag(client: httpx.AsyncClient) -> str:
    return (await client.get("/settings")).headers["etag"]


async def _change(client: httpx.AsyncClient, patch: object) -> httpx.Response:
    return await client.patch("/settings", json=patch, headers={"if-match": await _etag(client)})


async def test_settings_are_read_with_their_defaults(client: httpx.AsyncClient) -> None:
    response = await client.get("/settings")
    assert response.status_code == 200
    assert response.json()["limits"]["workers"] == 2
    assert response.json()["roots"] == []
    again = await client.get("/settings", headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_change_is_in_force_at_once(
    client: httpx.AsyncClient, studio: Studio, tmp_path: Path
) -> None:
    changed = await _change(
        client, {"limits": {"workers": 3}, "roots": [{"id": "p", "path": str(tmp_path / "p")}]}
    )
    assert changed.status_code == 200
    assert changed.json() == (await client.get("/settings")).json()
    assert changed.headers["etag"] == await _etag(client)
    assert studio.settings.current.limits.workers == 3
    reset = await _change(client, {"limits": None, "roots": None})
    assert reset.json()["limits"]["workers"] == 2 and reset.json()["roots"] == []


async def test_a_change_may_come_under_the_media_type_of_its_rfc(client: httpx.AsyncClient) -> None:
    headers = {"if-match": await _etag(client), "content-type": "application/merge-patch+json"}
    response = await client.patch("/settings", content=b'{"limits":{"workers":4}}', headers=headers)
    assert response.json()["limits"]["workers"] == 4


async def test_a_change_names_its_version(client: httpx.AsyncClient) -> None:
    old = await _etag(client)
    missing = await client.patch("/settings", json={})
    assert (missing.status_code, missing.json()["code"]) == (428, "version_required")
    await _change(client, {"limits": {"workers": 3}})
    stale = await client.patch("/settings", json={}, headers={"if-match": old})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")


async def test_everything_wrong_is_named_at_once(client: httpx.AsyncClient) -> None:
    patch = {
        "limits": {"workers": 0, "typo": 1},
        "roots": [{"id": "runs", "path": "relative"}, {"id": "a"}],
        "devices": [{"id": "cpu", "enabled": False}],
    }
    response = await _change(client, patch)
    assert response.status_code == 422
    assert {each["pointer"] for each in response.json()["errors"]} == {
        "#/limits/workers",
        "#/limits/typo",
        "#/roots/0/id",
        "#/roots/0/path",
        "#/roots/1/path",
        "#/devices/0/enabled",
    }


async def test_what_contradicts_itself_as_a_whole_is_named_too(
    client: httpx.AsyncClient, studio: Studio
) -> None:
    twice = [{"id": "cpu"}, {"id": "cpu"}]
    response = await _change(client, {"devices": twice})
    assert [each["pointer"] for each in response.json()["errors"]] == ["#/devices/1/id"]
    response = await _change(client, {"roots": [{"id": "a", "path": str(studio.home)}]})
    assert [each["pointer"] for each in response.json()["errors"]] == ["#/roots/0/path"]


async def test_an_edit_by_hand_is_seen(client: httpx.AsyncClient, studio: Studio) -> None:
    old = await _etag(client)
    (studio.home / "settings.toml").write_text("[limits]\nworkers = 9\n", encoding="utf-8")
    assert (await client.get("/settings")).json()["limits"]["workers"] == 9
    assert await _etag(client) != old
    (studio.home / "settings.toml").write_text("[limits]\nworkers = many\n", encoding="utf-8")
    broken = await client.get("/settings")
    assert (broken.status_code, broken.json()["code"]) == (422, "settings_invalid")
    assert "line 2" in broken.json()["detail"]


async def test_a_form_can_be_made_from_the_schema(client: httpx.AsyncClient) -> None:
    response = await client.get("/settings/schema")
    assert response.headers["content-type"].startswith("application/schema+json")
    workers = response.json()["$defs"]["LimitSettings"]["properties"]["workers"]
    assert (workers["title"], workers["x-detail"], workers["maximum"]) == ("Workers", "advanced", 64)


async def test_a_key_is_set_shown_by_its_end_and_deleted(client: httpx.AsyncClient, studio: Studio) -> None:
    said = await client.put("/keys/huggingface", json={"value": _TOKEN})
    shown = {"name": "huggingface", "title": "Hugging Face", "set": True, "last4": "8642", "place": "file"}
    assert (said.status_code, said.json()) == (200, shown)
    assert shown in (await client.get("/keys")).json()["items"]
    assert studio.keys.all() == {"huggingface": _TOKEN}
    assert (await client.delete("/keys/huggingface")).status_code == 204
    assert not any(each["set"] for each in (await client.get("/keys")).json()["items"])


async def test_a_service_that_is_not_known_is_not_found(client: httpx.AsyncClient) -> None:
    for name in ("unknown", "UPPER", "..%2f", "a" * 200):
        assert (await client.put(f"/keys/{name}", json={"value": _TOKEN})).status_code == 404
        assert (await client.delete(f"/keys/{name}")).status_code == 404


@pytest.mark.parametrize(
    "value", [f"{_TOKEN} x", f"{_TOKEN}\n", f"{_TOKEN}é", _TOKEN * 300, "", 5, None, [_TOKEN], {"a": _TOKEN}]
)
async def test_what_is_no_key_is_refused_and_not_repeated(
    value: object, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await client.put("/keys/huggingface", json={"value": value})
    assert response.status_code == 422
    assert [each["pointer"].startswith("#/value") for each in response.json()["errors"]] == [True]
    assert _TOKEN not in response.text and _TOKEN not in caplog.text


async def test_nothing_that_is_kept_or_said_has_a_key(
    client: httpx.AsyncClient, studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await client.put("/keys/huggingface", json={"value": _TOKEN})
    for path in ("/keys", "/settings", "/openapi.json", "/system"):
        assert _TOKEN not in (await client.get(path)).text
    await studio.events.flush()
    kept = {
        str(path.relative_to(studio.home))
        for path in studio.home.rglob("*")
        if path.is_file() and _TOKEN.encode() in path.read_bytes()
    }
    assert kept == {"secrets"}
    assert _TOKEN not in caplog.text
    assert _TOKEN not in repr(vars(studio))
