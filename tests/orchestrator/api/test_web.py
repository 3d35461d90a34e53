"""The files of the web pages, where there is a build of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from orchestrator.access.access import open_access
from orchestrator.api.web import open_paths, web_routes
from orchestrator.serving.site import Site
from orchestrator.studio import Studio

pytestmark = pytest.mark.anyio

BASE = "http://127.0.0.1:7878"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Lorakeet</title>", encoding="utf-8")
    (folder / "assets" / "main-1a2b.js").write_text("export {}", encoding="utf-8")
    (folder / "notes.txt").write_text("not for browsers", encoding="utf-8")
    return folder


@pytest.fixture
async def site(studio: Studio) -> Site:
    return Site((await open_access(studio.control)).access, (BASE,), BASE)


@pytest.fixture
async def browser(site: Site, bundle: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=web_routes(site, bundle))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        yield client


async def test_the_front_page_is_looked_at_again_and_what_has_a_hash_in_its_name_is_not(
    browser: httpx.AsyncClient,
) -> None:
    front = await browser.get("/")
    assert front.headers["content-type"] == "text/html; charset=utf-8"
    assert front.headers["cache-control"] == "no-cache"
    assert front.headers["content-disposition"].startswith("inline")
    script = await browser.get("/assets/main-1a2b.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in script.headers["cache-control"]


async def test_only_what_belongs_to_a_build_is_served(browser: httpx.AsyncClient) -> None:
    for path in ("/notes.txt", "/assets", "/assets/../../home/control.db", "/%2e%2e/home/control.db"):
        assert (await browser.get(path)).status_code == 404


async def test_a_build_needs_no_token(site: Site, bundle: Path) -> None:
    assert open_paths(web_routes(site, bundle)) == {
        "/",
        "/login",
        "/plain.css",
        "/index.html",
        "/assets/main-1a2b.js",
    }
    assert open_paths(web_routes(site, None)) == {"/", "/login", "/plain.css"}
