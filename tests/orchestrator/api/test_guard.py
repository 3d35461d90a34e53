"""The guard around a trivial application: every case of the table, and what the table has no column for."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.types import Message, Scope

from orchestrator.access.access import Access, Credential, open_access
from orchestrator.access.attempts import LIMIT
from orchestrator.api.binding import listed_origins
from orchestrator.api.guard import Guard, visit_of
from orchestrator.api.hosts import Authority, Hosts
from orchestrator.store.control import open_control
from tests.orchestrator.api.guard_cases import LISTED_HOST, LISTED_ORIGIN, Case, cases
from tests.orchestrator.api.in_process import Inner, ask, scope_of

pytestmark = pytest.mark.anyio

HOST, PORT = "127.0.0.1", 8_123
PATHS = {"api": "/api/v1/jobs", "page": "/datasets", "health": "/healthz"}
OWN = ("Host", f"{HOST}:{PORT}")


class Door(NamedTuple):
    """A guard with all it knows."""

    inner: Inner
    guard: Guard
    access: Access
    token: str
    cookie: str

    @property
    def bearer(self) -> tuple[str, str]:
        """The header of a program."""
        return ("Authorization", f"Bearer {self.token}")

    @property
    def session(self) -> tuple[str, str]:
        """The header of a browser."""
        return ("Cookie", f"lorakeet_{PORT}={self.cookie}")


def _hosts(*listed: str) -> Hosts:
    return Hosts(PORT, tuple(Authority(each) for each in listed))


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_control(tmp_path) as database:
        access, token, _ = await open_access(database)
        assert token is not None
        cookie = await access.start_session("a browser")
        inner = Inner()
        guard = Guard(inner, access, _hosts())
        yield Door(inner, guard, access, token, cookie)


def _guard_for(case: Case, door: Door) -> Guard:
    return Guard(
        door.inner,
        door.access,
        _hosts(LISTED_HOST) if case.needs == "host" else _hosts(),
        origins=listed_origins([LISTED_ORIGIN]) if case.needs == "origin" else (),
    )


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
async def test_each_case_is_let_in_or_refused_as_the_table_says(case: Case, door: Door) -> None:
    headers = case.headers_for(HOST, PORT, door.token, door.cookie)
    query = case.query_for(door.token)
    scope = scope_of(PATHS[case.path], headers, method=case.method, query=query)
    reply = await ask(_guard_for(case, door), scope)
    assert reply.status == (case.status or 200)
    assert bool(door.inner.scopes) == (case.status is None)
    if case.kind:
        problem = reply.problem
        assert (problem["code"], problem["status"], problem["instance"]) == (
            case.kind,
            case.status,
            PATHS[case.path],
        )
    assert bool(reply.all("www-authenticate")) == (reply.status == 401)


@pytest.mark.parametrize("case", [case for case in cases() if case.counted], ids=lambda case: case.id)
async def test_a_wrong_token_is_answered_429_after_ten_and_the_right_one_as_ever(
    case: Case, door: Door
) -> None:
    scope = scope_of(headers=case.headers_for(HOST, PORT, door.token, door.cookie))
    statuses = [(await ask(door.guard, scope)).status for _ in range(LIMIT)]
    reply = await ask(door.guard, scope)
    assert statuses == [401] * LIMIT
    assert reply.problem["code"] == "too_many_attempts"
    assert 0 < int(reply.all("retry-after")[0]) <= 60
    assert (await ask(door.guard, scope_of(headers=[OWN, door.bearer]))).status == 200
    assert (await ask(door.guard, scope_of(headers=[OWN, door.session]))).status == 200


@pytest.mark.parametrize("case", [case for case in cases() if case.status == 401], ids=lambda case: case.id)
async def test_what_is_not_a_wrong_token_is_never_counted(case: Case, door: Door) -> None:
    headers = case.headers_for(HOST, PORT, door.token, door.cookie)
    guard = _guard_for(case, door)
    statuses = {(await ask(guard, scope_of(headers=headers))).status for _ in range(LIMIT + 1)}
    assert statuses == ({401, 429} if case.counted else {401})


async def test_guessing_from_one_address_hinders_no_other(door: Door) -> None:
    wrong = [OWN, ("Authorization", "Bearer lk_wrong")]
    for _ in range(LIMIT + 1):
        await ask(door.guard, scope_of(headers=wrong, client="192.0.2.1"))
    assert (await ask(door.guard, scope_of(headers=wrong, client="192.0.2.2"))).status == 401
    assert (await ask(door.guard, scope_of(headers=wrong, client="192.0.2.1"))).status == 429


async def test_the_application_learns_what_a_request_was_let_in_by(door: Door) -> None:
    await ask(door.guard, scope_of(headers=[OWN, door.session]))
    await ask(door.guard, scope_of(headers=[OWN, door.bearer], client="127.0.0.1"))
    await ask(door.guard, scope_of("/healthz", headers=[OWN]))
    browser, program, nobody = (visit_of(each) for each in door.inner.scopes)
    assert browser.by == Credential("session", door.access.sessions()[0].id)
    assert program.by is not None and program.by.kind == "token"
    assert (nobody.by, nobody.client, nobody.port) == (None, "127.0.0.1", PORT)


async def test_login_needs_no_token_but_is_closed_to_pages_of_others(door: Door) -> None:
    foreign = ("Origin", "https://evil.example")
    assert (await ask(door.guard, scope_of("/login", [OWN]))).status == 200
    assert (await ask(door.guard, scope_of("/login", [OWN, foreign], method="POST"))).status == 403
    assert (await ask(door.guard, scope_of("/login", [("Host", "evil.example")]))).status == 421
    assert (await ask(door.guard, scope_of("/login/", [OWN]))).status == 401


async def test_which_paths_are_open_is_for_the_application_to_say(door: Door) -> None:
    guard = Guard(door.inner, door.access, _hosts(), open_paths={"/", "/assets/app.js"})
    answers = {
        path: (await ask(guard, scope_of(path, [OWN]))).status
        for path in ("/", "/assets/app.js", "/assets/other.js", "/login")
    }
    assert answers == {"/": 200, "/assets/app.js": 200, "/assets/other.js": 401, "/login": 401}


async def test_health_is_two_paths_and_nothing_beside_them(door: Door) -> None:
    paths = ("/healthz", "/readyz", "/healthz/", "/healthz/more", "/readyzz", "/HEALTHZ", "//healthz")
    answers = [(await ask(door.guard, scope_of(path, [OWN]))).status for path in paths]
    assert answers == [200, 200, 401, 401, 401, 401, 401]


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        (["cross-site"], "navigate", "document", 200),
        (["same-site"], "navigate", "document", 200),
        (["cross-site", "cross-site"], "navigate", "document", 403),
        (["cross-site"], "cors", "document", 403),
        (["cross-site"], "navigate", "frame", 403),
        (["cross-site"], "navigate", "embed", 403),
        (["cross-site"], "cors", "empty", 403),
        (["cross-site"], "websocket", "empty", 403),
    ],
)
async def test_from_other_sites_our_pages_open_in_tabs_only(
    site: list[str], mode: str, dest: str, status: int, door: Door
) -> None:
    said = [*(("Sec-Fetch-Site", each) for each in site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]
    reply = await ask(door.guard, scope_of("/datasets", [OWN, door.session, *said]))
    assert reply.status == status


async def test_pages_of_a_listed_origin_read_refusals_too_and_nothing_is_cached_for_others(
    door: Door,
) -> None:
    guard = Guard(door.inner, door.access, _hosts(), origins=listed_origins([LISTED_ORIGIN]))
    refused = await ask(guard, scope_of(headers=[OWN, ("Origin", LISTED_ORIGIN)]))
    foreign = await ask(guard, scope_of(headers=[OWN, ("Origin", "https://evil.example"), door.bearer]))
    own = await ask(guard, scope_of(headers=[OWN, door.bearer]))
    assert [each.status for each in (refused, foreign, own)] == [401, 403, 200]
    assert [each.all("access-control-allow-origin") for each in (refused, foreign, own)] == [
        [LISTED_ORIGIN],
        [],
        [],
    ]
    assert [each.all("vary") for each in (refused, foreign, own)] == [["Origin"]] * 3


async def test_a_preflight_of_a_listed_origin_is_told_what_it_may_send(door: Door) -> None:
    guard = Guard(door.inner, door.access, _hosts(), origins=listed_origins([LISTED_ORIGIN]))
    asks = [OWN, ("Origin", LISTED_ORIGIN), ("Access-Control-Request-Method", "PATCH")]
    reply = await ask(guard, scope_of(headers=asks, method="OPTIONS"))
    assert reply.all("access-control-allow-origin") == [LISTED_ORIGIN]
    assert "PATCH" in reply.all("access-control-allow-methods")[0]
    assert "Authorization" in reply.all("access-control-allow-headers")[0]
    assert reply.all("access-control-allow-credentials") == []
    assert reply.all("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "http://elsewhere/", ""])
async def test_no_link_of_another_site_leads_into_the_api_however_its_path_is_written(
    path: str, door: Door
) -> None:
    link = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ]
    reply = await ask(door.guard, scope_of(path, [OWN, door.session, *link]))
    assert reply.status == 403


async def test_the_standard_port_may_be_left_out_of_the_host(door: Door) -> None:
    guard = Guard(door.inner, door.access, Hosts(80))
    own = [("Host", "localhost"), ("Origin", "http://localhost"), door.bearer]
    assert (await ask(guard, scope_of(headers=own))).status == 200
    assert (await ask(guard, scope_of(headers=[("Host", "localhost:80"), door.bearer]))).status == 200
    assert (await ask(guard, scope_of(headers=[("Host", "localhost:443"), door.bearer]))).status == 421


@pytest.mark.parametrize(
    ("scheme", "forwarded", "host", "is_https"),
    [
        ("http", None, LISTED_HOST, False),
        ("http", "https", LISTED_HOST, True),
        ("http", "HTTPS, http", LISTED_HOST, True),
        ("http", "http, https", LISTED_HOST, False),
        ("http", "https", f"{HOST}:{PORT}", False),
        ("https", None, f"{HOST}:{PORT}", True),
    ],
)
async def test_a_forwarded_scheme_is_believed_for_names_that_were_listed_only(
    scheme: str, forwarded: str | None, host: str, is_https: bool, door: Door
) -> None:
    guard = Guard(door.inner, door.access, _hosts(LISTED_HOST))
    headers = [("Host", host), door.bearer]
    headers += [("X-Forwarded-Proto", forwarded)] if forwarded else []
    await ask(guard, scope_of(headers=headers, scheme=scheme))
    visit = visit_of(door.inner.scopes[0])
    assert visit.is_https == is_https
    assert visit.set_cookie("secret").endswith("; Secure") == is_https


async def test_a_session_works_by_the_port_that_the_browser_sees(door: Door) -> None:
    guard = Guard(door.inner, door.access, _hosts(LISTED_HOST))
    host = ("Host", f"{LISTED_HOST}:41234")
    inside = ("Cookie", f"lorakeet_{PORT}={door.cookie}")
    outside = ("Cookie", f"lorakeet_41234={door.cookie}")
    assert (await ask(guard, scope_of(headers=[host, inside]))).status == 401
    assert (await ask(guard, scope_of(headers=[host, outside]))).status == 200


async def test_a_refusal_carries_the_number_of_its_request(door: Door) -> None:
    scope = scope_of(headers=[OWN])
    scope["lorakeet.request_id"] = "req_1"
    assert (await ask(door.guard, scope)).problem["request_id"] == "req_1"


async def test_a_strange_host_is_named_so_that_it_can_be_allowed(door: Door) -> None:
    problem = (await ask(door.guard, scope_of(headers=[("Host", "pod.example:1")]))).problem
    assert "pod.example:1" in problem["detail"]
    assert "--allow-host" in problem["hint"]


async def test_no_refusal_repeats_a_secret(door: Door) -> None:
    for case in cases():
        headers = case.headers_for(HOST, PORT, door.token, door.cookie)
        scope = scope_of(PATHS[case.path], headers, method=case.method, query=case.query_for(door.token))
        reply = await ask(_guard_for(case, door), scope)
        said = f"{reply.headers}{reply.body!r}"
        assert door.token not in said and door.cookie not in said


async def test_websockets_are_refused_and_the_life_of_the_application_is_its_own(door: Door) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    websocket: Scope = {"type": "websocket", "path": "/api/v1/events", "headers": []}
    await door.guard(websocket, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert door.inner.scopes == []
    await door.guard({"type": "lifespan"}, receive, send)
    assert door.inner.scopes == [{"type": "lifespan"}]


async def test_a_session_that_was_ended_lets_nobody_in(door: Door) -> None:
    await door.access.end_session(door.access.sessions()[0].id)
    assert (await ask(door.guard, scope_of(headers=[OWN, door.session]))).status == 401


async def test_a_token_that_was_rotated_lets_nobody_in(door: Door) -> None:
    token = await door.access.rotate()
    assert (await ask(door.guard, scope_of(headers=[OWN, door.bearer]))).status == 401
    assert (await ask(door.guard, scope_of(headers=[OWN, door.session]))).status == 401
    fresh: tuple[str, str] = ("Authorization", f"Bearer {token}")
    assert (await ask(door.guard, scope_of(headers=[OWN, fresh]))).status == 200
