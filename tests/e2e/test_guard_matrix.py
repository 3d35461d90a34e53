"""Every route of a real studio × every case of the guard's table, over raw sockets; nothing changes by it."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from contract.errors import AccessError, leaves
from orchestrator.api.outgoing import _FIXED, _POLICY
from orchestrator.api.problems import status_of
from tests.e2e.owned import HOST, Owned, owned
from tests.e2e.raw_http import Line, Reply, request_bytes
from tests.e2e.state import kept
from tests.e2e.targets import HARMLESS, Target, applies, refusal, targets
from tests.orchestrator.api.guard_cases import LISTED_HOST, LISTED_ORIGIN, Case, cases

STATUSES: Final = {leaf.kind: status_of(leaf) for leaf in leaves(AccessError)}
CARRIED: Final = {(name.decode(), value.decode()) for name, value in (_POLICY, *_FIXED)}
PLAIN: Final = [case for case in cases() if case.needs is None]
NEEDY: Final = [case for case in cases() if case.needs is not None]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owned]:
    with owned(tmp_path_factory.mktemp("matrix") / "home") as opened:
        yield opened


@pytest.fixture
def listing_studio(tmp_path: Path) -> Iterator[Owned]:
    """One that was started with all that some cases need."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f'[access]\norigins = ["{LISTED_ORIGIN}"]\n', encoding="utf-8")
    with owned(home, "--allow-host", LISTED_HOST) as opened:
        yield opened


def _line(studio: Owned, number: int) -> Line:
    """Another client for every route: wrong tokens are counted by address, and ten of them are enough."""
    own = "" if sys.platform == "darwin" else f"127.77.{number // 250}.{number % 250 + 1}"
    return Line(HOST, studio.port, source=own)


def _request(case: Case, target: Target, studio: Owned) -> bytes:
    query = f"{case.query_for(studio.token)}&{HARMLESS}=1".removeprefix("&")
    headers = case.headers_for(HOST, studio.port, studio.token, studio.cookie)
    method = "OPTIONS" if case.method == "OPTIONS" else target.method
    return request_bytes(method, f"{target.path}?{query}", headers)


def _is_right(case: Case, target: Target, reply: Reply) -> bool:
    refused_as = refusal(case, target)
    if case.status == 204 and target.kind != "health":
        return reply.status == 204
    if refused_as is None:
        # Of an operation: that it knows no such parameter. A page does not look at its query.
        return reply.code not in STATUSES and (target.kind != "api" or reply.status in (404, 405, 422))
    if reply.code == "too_many_attempts":
        return case.counted and sys.platform == "darwin"
    has_body = target.method != "HEAD" or case.method == "OPTIONS"
    return (reply.status, reply.code) == (STATUSES[refused_as], refused_as if has_body else None)


def _tried(studio: Owned, chosen: Sequence[Case]) -> Iterator[tuple[Case, Target, Reply]]:
    for number, target in enumerate(targets()):
        asked = [case for case in chosen if applies(case, target)]
        with _line(studio, number) as line:
            replies = line.ask([_request(case, target, studio) for case in asked])
        yield from ((case, target, reply) for case, reply in zip(asked, replies, strict=True))


def _wrong(tried: Iterator[tuple[Case, Target, Reply]]) -> list[str]:
    return [
        f"{case.id}, at {target.method} {target.path}: {reply.status} {reply.code}"
        for case, target, reply in tried
        if not (_is_right(case, target, reply) and set(reply.headers) >= CARRIED)
    ]


def test_every_route_answers_every_case_as_the_table_says_and_nothing_changes(studio: Owned) -> None:
    before = kept(studio.process.home)
    assert len(PLAIN) >= 33
    assert _wrong(_tried(studio, PLAIN)) == []
    assert kept(studio.process.home) == before


def test_names_and_origins_that_the_user_listed_are_let_in_at_every_route(listing_studio: Owned) -> None:
    before = kept(listing_studio.process.home)
    assert len(NEEDY) >= 3
    assert _wrong(_tried(listing_studio, NEEDY)) == []
    assert kept(listing_studio.process.home) == before


def test_no_route_knows_a_token_and_a_session_from_before_a_rotation(tmp_path: Path) -> None:
    with owned(tmp_path / "home") as studio:
        with studio.client() as client:
            client.post("/session/token/rotate").raise_for_status()
        own = [("Host", f"{HOST}:{studio.port}"), ("Sec-Fetch-Site", "same-origin")]
        token = ("Authorization", f"Bearer {studio.token}")
        session = ("Cookie", f"lorakeet_{studio.port}={studio.cookie}")
        closed = [target for target in targets() if target.kind in ("api", "page")]
        for number, target in enumerate(closed):
            with _line(studio, number) as line:
                replies = line.ask(
                    [request_bytes(target.method, target.path, [*own, each]) for each in (token, session)]
                )
            assert [reply.status for reply in replies] == [401, 401], target


def test_the_eleventh_wrong_token_from_an_address_has_to_wait_whatever_route_it_tries(studio: Owned) -> None:
    wrong = [("Host", f"{HOST}:{studio.port}"), ("Authorization", "Bearer lk_wrong")]
    tried = [target for target in targets() if target.kind == "api" and target.method != "HEAD"][:11]
    with Line(HOST, studio.port, source="127.0.0.1") as line:
        replies = line.ask([request_bytes(target.method, target.path, wrong) for target in tried])
    assert [reply.status for reply in replies] == [401] * 10 + [429]
    assert replies[-1].code == "too_many_attempts"
