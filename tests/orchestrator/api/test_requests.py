"""Bodies and queries that are wrong in ways that the types of an operation cannot say."""

import httpx
import pytest

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'"',
        b"NaN",
        b"\xff",
        b'{"kind": "\\ud800"}',
        # Wrong for the operation before it is wrong as JSON.
        b"7\nz",
        b"[1]x",
        b'{"a": 1',
        b"1e999",
        b'{"kind": "tag", "name": "x", "settings": {"general_threshold": 1e999}}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_json_is_answered_400(body: bytes, client: httpx.AsyncClient) -> None:
    reply = await client.post("/presets", content=body, headers=JSON)
    assert (reply.status_code, reply.json()["code"]) == (400, "body_invalid")


async def test_json_of_another_type_is_answered_422_and_says_so(client: httpx.AsyncClient) -> None:
    reply = await client.post("/presets", content=b"7", headers=JSON)
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"pointer": "#", "detail": "expected `object`, got `int`"}]


@pytest.mark.parametrize("query", ["kind=null", "limit=null", "limit=NULL", "cursor=null"])
async def test_a_parameter_that_says_null_is_never_taken_for_one_that_is_left_out(
    query: str, client: httpx.AsyncClient
) -> None:
    reply = await client.get(f"/models?{query}")
    assert reply.status_code == 422
    assert [each["pointer"] for each in reply.json()["errors"]] == [f"#/query/{query.partition('=')[0]}"]


async def test_an_unknown_and_a_doubled_parameter_are_told(client: httpx.AsyncClient) -> None:
    assert (await client.get("/presets?nothing=1")).json()["errors"][0]["pointer"] == "#/query/nothing"
    assert (await client.get("/presets?limit=1&limit=2")).json()["errors"] == [
        {"pointer": "#/query/limit", "detail": "is given more than once"}
    ]
