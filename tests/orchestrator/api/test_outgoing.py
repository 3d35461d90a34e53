"""What every answer leaves with."""

import pytest

from orchestrator.api.hosts import Origin
from orchestrator.api.outgoing import Outgoing
from tests.orchestrator.api.in_process import Inner, Reply, ask, scope_of

pytestmark = pytest.mark.anyio

_TOOL = Origin("https", "tool.example", 443)

ALWAYS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'; object-src 'none'; img-src 'self' blob: data:",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


async def _sent(*headers: tuple[bytes, bytes], varies: bool = False, granted: Origin | None = None) -> Reply:
    async def app(scope: object, receive: object, send: object) -> None:
        outgoing = Outgoing(send, varies=varies)  # type: ignore[arg-type]
        outgoing.granted = granted
        await Inner(headers=list(headers))(scope_of(), receive, outgoing)

    return await ask(app, scope_of())


async def test_every_answer_has_the_headers_that_keep_other_pages_away() -> None:
    reply = await _sent((b"content-type", b"text/html"))
    assert {name: reply.all(name) for name in ALWAYS} == {name: [value] for name, value in ALWAYS.items()}
    assert (reply.all("content-type"), reply.body) == (["text/html"], b"inside")


async def test_what_an_answer_says_of_caching_stands() -> None:
    reply = await _sent((b"Cache-Control", b"private, max-age=31536000, immutable"))
    assert reply.all("cache-control") == ["private, max-age=31536000, immutable"]


async def test_an_answer_can_make_its_policy_stricter_but_no_header_weaker() -> None:
    reply = await _sent(
        (b"content-security-policy", b"sandbox"),
        (b"X-Frame-Options", b"SAMEORIGIN"),
        (b"cross-origin-resource-policy", b"cross-origin"),
    )
    assert reply.all("content-security-policy") == ["sandbox", ALWAYS["content-security-policy"]]
    assert reply.all("x-frame-options") == ["DENY"]
    assert reply.all("cross-origin-resource-policy") == ["same-origin"]


async def test_no_page_of_another_origin_may_read_an_answer_whatever_made_it() -> None:
    reply = await _sent(
        (b"Access-Control-Allow-Origin", b"*"), (b"access-control-allow-credentials", b"true")
    )
    assert [name for name, _ in reply.headers if name.lower().startswith("access-control")] == []
    assert reply.all("vary") == []


async def test_a_page_of_a_listed_origin_may_read_an_answer_without_cookies() -> None:
    reply = await _sent((b"vary", b"Accept"), varies=True, granted=_TOOL)
    assert reply.all("access-control-allow-origin") == ["https://tool.example"]
    assert "ETag" in reply.all("access-control-expose-headers")[0]
    assert reply.all("access-control-allow-credentials") == []
    assert reply.all("vary") == ["Accept", "Origin"]


async def test_where_origins_are_listed_no_cache_mixes_them_up() -> None:
    reply = await _sent(varies=True)
    assert reply.all("vary") == ["Origin"]
    assert reply.all("access-control-allow-origin") == []
