"""Names, codes and addresses that are HTML: shown as they are or not at all, never as a part of a page."""

from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from orchestrator.api.operations import operations
from tests.e2e.journey import picture, tagging
from tests.e2e.markup import PAYLOADS
from tests.e2e.owned import Owned
from tests.e2e.samples import path_of
from tests.e2e.tabs import Page, Profile

#: Of the payloads: every script, behind one thing or another.
SOME: Final = PAYLOADS[::5]


class _Shape(HTMLParser):
    """Every tag of a page, with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attributes))


def _asked(client: httpx.Client, text: str) -> Iterator[httpx.Response]:
    """Whatever is answered to somebody who writes `text` wherever he can."""
    quoted = quote(text, safe="")
    for page in ("/", "/login"):
        yield client.get(f"{page}?code={quoted}", headers={"user-agent": text, "referer": text})
        yield client.get(page, headers={"accept": text, "accept-language": text, "x-request-id": text})
    yield client.post("/login", data={"token": text})
    yield client.get(f"/{quoted}")
    yield client.get(f"/api/v1/{quoted}?{quoted}={quoted}")
    yield client.get(f"/api/v1/presets/{quoted}")
    yield client.get(f"/api/v1/presets?kind={quoted}&cursor={quoted}")
    yield client.post("/api/v1/presets", json={"kind": text, "name": text, text: text})


def test_what_a_visitor_writes_is_no_part_of_a_page(studio: Owned) -> None:
    headers = {"authorization": f"Bearer {studio.token}"}
    with httpx.Client(base_url=studio.origin, headers=headers) as client:
        plain = list(_asked(client, "plain"))
        for payload in PAYLOADS:
            for usual, reply in zip(plain, _asked(client, payload), strict=True):
                kind = reply.headers["content-type"]
                assert reply.headers["x-content-type-options"] == "nosniff"
                assert kind in ("text/html; charset=utf-8", "application/problem+json", "application/json")
                if kind.startswith("text/html"):
                    assert _Shape(reply.text).tags == _Shape(usual.text).tags, (str(reply.url), payload)


@pytest.fixture(scope="module")
def named(studio: Owned) -> dict[str, str]:
    """Of a studio in which everything has such a name, one id each."""
    with studio.client() as client:
        etag = client.get("/queue").headers["etag"]
        client.patch("/queue", json={"paused": True}, headers={"if-match": etag}).raise_for_status()
        datasets = [_made(client, "/datasets", {"name": payload}) for payload in SOME]
        presets = [
            _made(
                client, "/presets", {"kind": "tag", "name": payload, "description": payload, "settings": {}}
            )
            for payload in PAYLOADS
        ]
        jobs = [_made(client, "/jobs", {**tagging(datasets[0]), "name": payload}) for payload in SOME]
        images = f"/datasets/{datasets[0]}/images"
        parts = [(f"{name}.png", picture((8 + size, 8)), "image/png") for size, name in enumerate(PAYLOADS)]
        client.post(images, files=[("file", part) for part in parts]).raise_for_status()
        image = client.get(images).json()["items"][0]
        caption = f"{images}/{image['id']}/captions/caption"
        etag = image["captions"]["caption"]["etag"]
        written = client.put(caption, json={"text": "\n".join(PAYLOADS)}, headers={"if-match": etag})
        written.raise_for_status()
    for payload in SOME:
        agent = {"user-agent": payload}
        httpx.get(f"{studio.origin}/login?code={studio.new_code()}", headers=agent)
    ids = {"dataset_id": datasets[0], "preset_id": presets[0], "job_id": jobs[0], "image_id": image["id"]}
    return {**ids, "kind": "caption", "sha256": image["sha256"], "size": "256", "name": "huggingface"}


def _made(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    id: str = client.post(path, json=body).raise_for_status().json()["id"]
    return id


def _ran(page: Page) -> list[str]:
    """What has run, or was kept from it."""
    hit, kind = page.evaluate("[typeof top.hit, document.contentType]")
    complaints = page.complaints()
    if kind.startswith("image/"):
        # Of a picture the browser makes a page of its own, with a style.
        complaints = [each for each in complaints if "inline style" not in each]
    return [*complaints, *page.dialogs(), *(["a script"] if hit != "undefined" else [])]


def test_whatever_has_such_a_name_no_view_of_it_runs_a_script(
    named: dict[str, str], studio: Owned, profile: Profile
) -> None:
    page = profile.tab()
    page.go(f"{studio.origin}/login?code={studio.new_code()}")
    views = [each for each in operations() if each.method == "GET" and each.gives != "text/event-stream"]
    for path in ("/", "/login", *(path_of(each, named) for each in views)):
        # What is to be saved is not shown.
        assert page.go(f"{studio.origin}{path}") in (None, "net::ERR_ABORTED")
        assert _ran(page) == [], path


@pytest.mark.parametrize(
    ("path", "payloads"),
    [
        ("/login?code=", SOME),
        pytest.param("/login?code=", PAYLOADS, marks=pytest.mark.slow),
        pytest.param("/", PAYLOADS, marks=pytest.mark.slow),
        pytest.param("/api/v1/", PAYLOADS, marks=pytest.mark.slow),
    ],
    ids=["login, some", "login", "page", "api"],
)
def test_no_address_runs_a_script(
    path: str, payloads: Sequence[str], studio: Owned, profile: Profile
) -> None:
    page = profile.tab()
    for payload in payloads:
        assert page.go(f"{studio.origin}{path}{quote(payload, safe='')}") is None
        assert _ran(page) == [], payload


def test_the_scripts_run_where_names_are_written_into_a_page_as_they_are(profile: Profile) -> None:
    page, ran = profile.tab(), 0
    for payload in SOME:
        page.show("http://careless.test/", f'<!doctype html><p title="{payload}">{payload}</p>')
        ran += page.evaluate("new Promise(go => setTimeout(() => go(typeof top.hit), 20))") != "undefined"
    assert ran >= len(SOME) / 2
