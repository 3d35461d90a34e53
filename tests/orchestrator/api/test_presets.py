"""Presets over HTTP: versions, refusals, pages, and requests that come twice."""

import httpx
import pytest

pytestmark = pytest.mark.anyio

BODY = {"kind": "tag", "name": "mild", "settings": {"general_threshold": 0.4}}


async def made(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    response = await client.post("/presets", json=BODY | fields)
    assert response.status_code == 201, response.text
    return response


async def test_a_preset_is_made_read_replaced_and_deleted(client: httpx.AsyncClient) -> None:
    created = await made(client)
    place, etag = created.headers["location"], created.headers["etag"]
    read = await client.get(f"http://studio{place}")
    assert read.json() == created.json()
    assert read.headers["etag"] == etag
    body = {"name": "milder", "settings": {"general_threshold": 0.2}}
    replaced = await client.put(f"http://studio{place}", json=body, headers={"if-match": etag})
    assert replaced.status_code == 200
    assert replaced.json()["settings"] == {"general_threshold": 0.2}
    late = await client.delete(f"http://studio{place}", headers={"if-match": etag})
    assert (late.status_code, late.json()["code"]) == (412, "stale_version")
    headers = {"if-match": replaced.headers["etag"]}
    assert (await client.delete(f"http://studio{place}", headers=headers)).status_code == 204
    assert (await client.get(f"http://studio{place}")).status_code == 404


async def test_a_change_must_name_its_version(client: httpx.AsyncClient) -> None:
    place = (await made(client)).headers["location"]
    response = await client.delete(f"http://studio{place}")
    assert (response.status_code, response.json()["code"]) == (428, "version_required")


async def test_what_was_read_before_is_not_sent_again(client: httpx.AsyncClient) -> None:
    created = await made(client)
    headers = {"if-none-match": created.headers["etag"]}
    response = await client.get(f"http://studio{created.headers['location']}", headers=headers)
    assert (response.status_code, response.content) == (304, b"")


async def test_every_field_that_is_wrong_is_named_at_once(client: httpx.AsyncClient) -> None:
    settings = {"general_threshold": 3, "separator": "", "nonsense": 1}
    response = await client.post("/presets", json=BODY | {"settings": settings})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert {each["pointer"] for each in response.json()["errors"]} == {
        "#/settings/general_threshold",
        "#/settings/separator",
        "#/settings/nonsense",
    }


async def test_unknown_fields_and_kinds_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/presets", json=BODY | {"extra": 1})).status_code == 422
    assert (await client.post("/presets", json=BODY | {"kind": "dance"})).status_code == 422


async def test_two_presets_of_a_kind_have_two_names(client: httpx.AsyncClient) -> None:
    await made(client)
    response = await client.post("/presets", json=BODY)
    assert (response.status_code, response.json()["code"]) == (409, "state_conflict")


async def test_pages_follow_each_other_without_a_gap(client: httpx.AsyncClient) -> None:
    names = [f"p{number:02}" for number in range(7)]
    for name in names:
        await made(client, name=name)
    found: list[str] = []
    params: dict[str, str] = {"limit": "3"}
    while True:
        page = (await client.get("/presets", params=params)).json()
        assert page["total"] == 7
        found += [each["name"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert found == names


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=!", "what=1", "limit=1&limit=2"])
async def test_a_wrong_query_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/presets?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith("#/query/")


async def test_the_same_request_again_has_its_effect_once(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "abc"}
    first = await client.post("/presets", json=BODY, headers=headers)
    again = await client.post("/presets", json=BODY, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    other = await client.post("/presets", json=BODY | {"name": "else"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


async def test_a_refused_request_may_come_again_under_its_key(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "abc"}
    wrong = BODY | {"kind": "dance"}
    assert (await client.post("/presets", json=wrong, headers=headers)).status_code == 422
    assert (await client.post("/presets", json=BODY, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [(b"{", "application/json", 400), (b"{}", "text/plain", 415), (b"\xff", "application/json", 400)],
)
async def test_a_body_that_is_no_json_is_refused(
    client: httpx.AsyncClient, content: bytes, media_type: str, status: int
) -> None:
    response = await client.post("/presets", content=content, headers={"content-type": media_type})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_what_is_not_there_is_a_problem_too(client: httpx.AsyncClient) -> None:
    missing = await client.get("/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await client.patch("/presets", json={})
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert set(wrong.headers["allow"].split(", ")) >= {"GET", "POST"}


async def test_a_preset_may_name_a_model_as_people_do(client: httpx.AsyncClient) -> None:
    created = await made(client, settings={"model": "wd-vit-v3"})
    assert created.json()["settings"] == {"model": "wd-vit-v3"}
