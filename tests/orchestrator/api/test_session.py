"""Sessions, links and the token over HTTP, behind the guard."""

from collections.abc import AsyncIterator

import httpx
import pytest

from orchestrator.access.access import Opened, open_access
from orchestrator.api.guard import Guard
from orchestrator.api.hosts import Hosts
from orchestrator.api.web import open_paths, web_routes
from orchestrator.serving.app import Numbered, router
from orchestrator.serving.site import Site
from orchestrator.studio import Studio

pytestmark = pytest.mark.anyio

BASE = "http://127.0.0.1:7878"
API = f"{BASE}/api/v1"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@pytest.fixture
async def opened(studio: Studio) -> Opened:
    found = await open_access(studio.control)
    studio.site = Site(found.access, (BASE,), BASE)
    return found


@pytest.fixture
async def browser(studio: Studio, opened: Opened) -> AsyncIterator[httpx.AsyncClient]:
    """One that keeps cookies, and is not logged in."""
    assert studio.site is not None
    pages = web_routes(studio.site, None)
    guard = Guard(router(studio, pages), opened.access, Hosts(7878), open_paths=open_paths(pages))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Numbered(guard)), base_url=API) as client:
        yield client


def bearer(opened: Opened) -> dict[str, str]:
    return {"authorization": f"Bearer {opened.minted}"}


async def test_a_link_made_with_the_token_logs_a_browser_in(
    browser: httpx.AsyncClient, opened: Opened
) -> None:
    link = (await browser.post("/session/links", headers=bearer(opened))).json()
    assert link["urls"] == [link["url"]]
    assert (await browser.get(link["url"])).status_code == 303
    who = (await browser.get("/session")).json()
    assert (who["kind"], who["session"]["is_current"]) == ("session", True)
    page = (await browser.get("/sessions")).json()
    assert (page["items"], page["total"]) == ([who["session"]], 1)


async def test_who_comes_with_the_token_is_no_session(browser: httpx.AsyncClient, opened: Opened) -> None:
    assert (await browser.get("/session", headers=bearer(opened))).json() == {
        "kind": "token",
        "session": None,
    }
    local = {"authorization": f"Bearer {opened.local}"}
    assert (await browser.get("/session", headers=local)).json()["kind"] == "local"
    refused = await browser.delete("/session", headers=local)
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")


async def test_logging_out_ends_the_session_and_takes_the_cookie_away(
    browser: httpx.AsyncClient, opened: Opened
) -> None:
    await browser.post(f"{BASE}/login", data={"token": opened.minted}, headers=SAME_ORIGIN)
    gone = await browser.delete("/session", headers=SAME_ORIGIN)
    assert (gone.status_code, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)
    assert len(browser.cookies) == 0
    assert (await browser.get("/session")).status_code == 401


async def test_a_session_can_be_ended_from_another_browser(
    browser: httpx.AsyncClient, opened: Opened
) -> None:
    await browser.post(f"{BASE}/login", data={"token": opened.minted}, headers=SAME_ORIGIN)
    (session,) = (await browser.get("/sessions")).json()["items"]
    place = f"/sessions/{session['id']}"
    assert (await browser.delete(place, headers=bearer(opened))).status_code == 204
    assert (await browser.delete(place, headers=bearer(opened))).status_code == 404
    assert (await browser.get("/session")).status_code == 401


async def test_the_token_logs_a_browser_in_by_the_form(browser: httpx.AsyncClient, opened: Opened) -> None:
    assert "<form" in (await browser.get(f"{BASE}/login")).text
    for token, status in (("", 401), ("lk_wrong", 401), (f" {opened.minted}\n", 303)):
        answer = await browser.post(f"{BASE}/login", data={"token": token}, headers=SAME_ORIGIN)
        assert answer.status_code == status
    front = await browser.get(f"{BASE}/")
    assert "<form" not in front.text
    assert "the studio runs" in front.text.lower()


async def test_guessing_tokens_by_the_form_is_slow(browser: httpx.AsyncClient) -> None:
    for _ in range(10):
        await browser.post(f"{BASE}/login", data={"token": "lk_wrong"}, headers=SAME_ORIGIN)
    answer = await browser.post(f"{BASE}/login", data={"token": "lk_wrong"}, headers=SAME_ORIGIN)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


async def test_a_form_of_another_page_and_an_endless_one_are_refused(
    browser: httpx.AsyncClient, opened: Opened
) -> None:
    foreign = {"origin": "http://127.0.0.1:9002"}
    answer = await browser.post(f"{BASE}/login", data={"token": opened.minted}, headers=foreign)
    assert answer.status_code == 403
    answer = await browser.post(f"{BASE}/login", data={"token": "x" * 100_000}, headers=SAME_ORIGIN)
    assert answer.status_code == 413


async def test_a_new_token_ends_the_old_one_and_every_session(
    browser: httpx.AsyncClient, opened: Opened, studio: Studio
) -> None:
    await browser.post(f"{BASE}/login", data={"token": opened.minted}, headers=SAME_ORIGIN)
    fresh = (await browser.post("/session/token/rotate", headers=bearer(opened))).json()["token"]
    assert (await browser.get("/session")).status_code == 401
    assert (await browser.get("/session", headers=bearer(opened))).status_code == 401
    assert (await browser.get("/session", headers={"authorization": f"Bearer {fresh}"})).status_code == 200


async def test_answers_with_secrets_are_not_kept_under_a_key(
    browser: httpx.AsyncClient, opened: Opened, studio: Studio
) -> None:
    headers = bearer(opened) | {"idempotency-key": "abc"}
    first = await browser.post("/session/links", headers=headers)
    second = await browser.post("/session/links", headers=headers)
    assert first.json()["url"] != second.json()["url"]
    rows = await studio.control.read(lambda db: db.execute("SELECT * FROM idempotency").fetchall())
    assert rows == []


async def test_without_a_running_studio_there_is_nobody_to_log_in(client: httpx.AsyncClient) -> None:
    answer = await client.post("/session/links")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "lorakeet serve" in answer.json()["hint"]
