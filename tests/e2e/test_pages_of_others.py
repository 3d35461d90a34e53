"""Pages of other programs and sites, in a real browser that is logged in: they read nothing, change nothing.

Every probe is shown to work where nobody guards, so that its silence means something.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest

from orchestrator.api.operations import operations
from tests.e2e.attackers import SANDBOXED, SCRIPT, Arrived, attacker, unguarded
from tests.e2e.chromium import Browser
from tests.e2e.journey import journey
from tests.e2e.owned import HOST, Owned, owned
from tests.e2e.samples import body_of, path_of
from tests.e2e.state import kept
from tests.e2e.tabs import Page, Profile, used
from tests.studio_process import until

#: One operation for every kind of answer.
TELLING: Final = (
    *("read_session", "read_docs", "read_openapi", "read_metrics", "list_presets"),
    *("read_thumbnail", "read_original"),
)
STREAMS: Final = ("follow_events",)
#: Probes for which the browser makes a page: tried on a few addresses only.
WITH_PAGES: Final = ("frame", "object", "window", "handle on a window")
PAGES: Final = ("read_session", "read_docs")
FORMS: Final = ("form", "form as text", "form with files")
FORMS_FOR: Final = ("create_preset", "upload_images", "rotate_token")
#: What pages of the studio itself can do. They are in no frame, and have no use for the rest.
OWN: Final = {
    *("fetch", "fetch without cookies", "fetch of a range", "fetch that may not read", "XMLHttpRequest"),
    *("image", "image on a canvas", "preloaded image", "EventSource", "timing"),
    *("window", "handle on a window"),
}

Tried = list[list[Any]]


class Victim(NamedTuple):
    """A studio in use, and a browser that is logged in to it by `origin`.

    Where that is plain http beyond loopback, browsers send no Sec-Fetch headers and let pages keep a hold of
    the windows that they open.
    """

    studio: Owned
    origin: str
    profile: Profile
    ids: dict[str, str]

    @property
    def with_pages(self) -> list[str]:
        """The probes that make pages."""
        return [each for each in WITH_PAGES if "handle" not in each or "studio.test" not in self.origin]

    def reads(self, names: Sequence[str] = ()) -> list[str]:
        """The addresses of everything that can be read, or of some operations."""
        found = [each for each in operations() if each.method == "GET" and (each.name in names or not names)]
        return [self.origin + path_of(each, self.ids) for each in found]

    def writes(self, names: Sequence[str] = ()) -> list[list[str]]:
        """Everything that changes something, or some operations: method, address, body."""
        return [
            [each.method, self.origin + path_of(each, self.ids), body_of(each).decode() or "{}"]
            for each in operations()
            if each.method != "GET" and (each.name in names or not names)
        ]


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    with attacker() as port:
        yield port


def _victim(browser: Browser, home: Path, origin: str, *arguments: str) -> Iterator[Victim]:
    with owned(home, *arguments) as studio, used(browser) as profile:
        origin = origin.format(port=studio.port)
        page = profile.tab()
        page.go(f"{origin}/login?code={studio.new_code()}")
        assert [cookie["sameSite"] for cookie in profile.cookies()] == ["Strict"]
        yield Victim(studio, origin, profile, journey(studio))


@pytest.fixture(scope="module")
def victim(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    yield from _victim(browser, tmp_path_factory.mktemp("victim") / "home", f"http://{HOST}:{{port}}")


@pytest.fixture(scope="module")
def rented(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """As on a rented machine, under a name of its own."""
    home = tmp_path_factory.mktemp("rented") / "home"
    listening = ("--host", "0.0.0.0", "--allow-host", "studio.test")
    yield from _victim(browser, home, "http://studio.test:{port}", *listening)


@pytest.fixture
def localhost(browser: Browser, tmp_path: Path) -> Iterator[Victim]:
    """By loopback's other name."""
    yield from _victim(browser, tmp_path / "home", "http://localhost:{port}")


def _attacking(profile: Profile, url: str) -> Page:
    page = profile.tab()
    assert page.go(url) is None
    page.evaluate(SCRIPT)
    return page


def _expecting_success(page: Page) -> Page:
    """The page looks for longer for what will come, and for less long for what will not go."""
    page.evaluate("Object.assign(attack.wait, {lookMs: 10000, handleMs: 200})")
    return page


def _read(page: Page, urls: Sequence[str], names: Sequence[str] | None = None) -> Tried:
    read: Tried = page.evaluate(f"attack.read({json.dumps(urls)}, {json.dumps(names)})")
    return read


def _write(page: Page, requests: Sequence[Sequence[str]], names: Sequence[str] | None = None) -> Tried:
    written: Tried = page.evaluate(f"attack.write({json.dumps(requests)}, {json.dumps(names)})")
    return written


def _probes(page: Page, kind: str, without: Sequence[str] = ()) -> list[str]:
    names: list[str] = page.evaluate(f"attack.names.{kind}")
    return [name for name in names if name not in without]


def _learned(tried: Tried) -> Tried:
    return [each for each in tried if each[-1]]


def _attack_everything(page: Page, victim: Victim) -> Tried:
    """Try every probe on the studio; what was learned."""
    light = _probes(page, "reads", WITH_PAGES)
    tried = [
        *_read(page, victim.reads(), ["fetch", "fetch that may not read", "image"]),
        *_read(page, victim.reads(TELLING), light),
        *_read(page, victim.reads(STREAMS), ["EventSource", "image on a canvas"]),
        *_read(page, [f"{victim.origin}/", *victim.reads(PAGES)], victim.with_pages),
        *_write(page, victim.writes(), _probes(page, "writes", FORMS)),
        *_write(page, victim.writes(FORMS_FOR), FORMS),
    ]
    return _learned(tried)


def _stays_closed(page: Page, victim: Victim) -> None:
    before = kept(victim.studio.process.home)
    assert _attack_everything(page, victim) == []
    assert [url for url in victim.profile.framed() if url.startswith(victim.origin)] == []
    assert kept(victim.studio.process.home) == before
    victim.profile.close_windows()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://evil.test:{port}/",
        pytest.param("http://localhost:{port}/", marks=pytest.mark.slow),
    ],
)
def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(
    url: str, victim: Victim, foreign_port: int
) -> None:
    _stays_closed(_attacking(victim.profile, url.format(port=foreign_port)), victim)


def test_a_page_without_an_origin_reads_nothing_and_changes_nothing(
    victim: Victim, foreign_port: int
) -> None:
    page = _attacking(victim.profile, f"http://{HOST}:{foreign_port}{SANDBOXED}")
    assert page.evaluate("origin") == "null"
    _stays_closed(page, victim)


def test_a_rebound_name_gets_to_know_that_it_is_refused_and_nothing_else(victim: Victim) -> None:
    before = kept(victim.studio.process.home)
    rebound = victim._replace(origin=f"http://rebind.test:{victim.studio.port}")
    page = victim.profile.tab()
    page.show(f"{rebound.origin}/", "<!doctype html><title>attacker</title><body>")
    page.evaluate(SCRIPT)
    assert page.evaluate("origin") == rebound.origin
    texts = [
        *_read(page, rebound.reads(), ["fetch", "fetch without cookies", "XMLHttpRequest"]),
        *_write(page, rebound.writes(), _probes(page, "writes", FORMS)),
    ]
    assert {json.loads(text)["code"] for *_, text in _learned(texts)} == {"host_refused"}
    elements = ["image", "script", "module", "style sheet", "EventSource", "WebSocket", "frame", "object"]
    assert _learned(_read(page, rebound.reads(PAGES), elements)) == []
    assert kept(victim.studio.process.home) == before


@pytest.mark.parametrize(
    "url",
    [
        "http://studio.test:{port}/",
        pytest.param("http://neighbour.studio.test:{port}/", marks=pytest.mark.slow),
        pytest.param("http://evil.test:{port}/", marks=pytest.mark.slow),
    ],
)
def test_a_rented_studio_is_as_closed_to_its_neighbours(url: str, rented: Victim, foreign_port: int) -> None:
    _stays_closed(_attacking(rented.profile, url.format(port=foreign_port)), rented)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["http://localhost:{port}/", "http://127.0.0.1:{port}/"])
def test_a_studio_that_was_opened_as_localhost_is_as_closed(
    url: str, localhost: Victim, foreign_port: int
) -> None:
    _stays_closed(_attacking(localhost.profile, url.format(port=foreign_port)), localhost)


@pytest.mark.parametrize("name", ["127.0.0.1", "evil.test"])
def test_a_link_of_another_origin_opens_a_page_of_the_studio_but_nothing_of_its_api(
    name: str, victim: Victim, foreign_port: int
) -> None:
    page = _attacking(victim.profile, f"http://{name}:{foreign_port}/")
    page.submit(f"location.href = '{victim.origin}/'")
    assert page.addresses() == [f"{victim.origin}/"]
    assert page.evaluate("document.title") == "Lorakeet"
    page = _attacking(victim.profile, f"http://{name}:{foreign_port}/")
    page.submit(f"location.href = '{victim.origin}/api/v1/session'")
    assert json.loads(page.evaluate("document.body.innerText"))["code"] == "cross_site"


def test_a_page_of_the_studio_reads_and_changes_what_others_cannot(victim: Victim) -> None:
    page = _expecting_success(_attacking(victim.profile, f"{victim.origin}/api/v1/docs"))
    before = kept(victim.studio.process.home)
    light = [name for name in OWN if name not in WITH_PAGES]
    learned = [
        *_read(page, victim.reads(TELLING), light),
        *_read(page, victim.reads(STREAMS), ["EventSource"]),
        *_read(page, victim.reads(PAGES), WITH_PAGES),
    ]
    assert {name for name, *_ in _learned(learned)} == OWN
    assert kept(victim.studio.process.home) == before
    body = json.dumps({"kind": "tag", "name": "Own", "settings": {}})
    request = ["POST", f"{victim.origin}/api/v1/presets", body]
    ((_, _, answer),) = _write(page, [request], ["fetch of JSON"])
    assert json.loads(answer)["name"] == "Own"
    assert kept(victim.studio.process.home) != before


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.test:{port}/",
        pytest.param("http://127.0.0.1:{port}/", marks=pytest.mark.slow),
        pytest.param(f"http://{HOST}:{{port}}{SANDBOXED}", marks=pytest.mark.slow),
    ],
)
def test_every_probe_gets_through_where_nobody_guards(url: str, profile: Profile, foreign_port: int) -> None:
    with unguarded() as (port, arrived):
        free = f"http://{HOST}:{port}/"
        page = _expecting_success(_attacking(profile, url.format(port=foreign_port)))
        for name in _probes(page, "reads"):
            # An address for each: what one gets must not come to another from the browser's cache.
            assert _learned(_read(page, [f"{free}{quote(name)}"], [name])), name
        assert f"{free}frame" in profile.framed()
        arrived.clear()
        _write(page, [["DELETE", free, '{"a":1}']])
        until(lambda: len(arrived) == len(_probes(page, "writes")))
        assert _ways(arrived) >= {("DELETE", "application/json"), ("POST", "text/plain"), ("POST", "")}


def _ways(arrived: list[Arrived]) -> set[tuple[str, str]]:
    return {(each.method, each.media_type.partition(";")[0]) for each in arrived}
