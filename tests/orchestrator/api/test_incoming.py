"""What the guard reads out of a request."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.hosts import Reached
from orchestrator.api.incoming import Incoming
from tests.orchestrator.api.in_process import scope_of

LOOPBACK = Reached("localhost", 8_000, is_listed=False)
LISTED = Reached("studio.example", None, is_listed=True)


def test_headers_are_found_as_often_as_they_were_sent_however_they_are_written() -> None:
    scope = scope_of(headers=[("Host", "a"), ("Host", "b"), ("Origin", "c")])
    scope["headers"].append((b"ORIGIN-Agent", b"d"))
    request = Incoming(scope)
    assert (request.all(b"host"), request.only(b"host")) == (["a", "b"], None)
    assert (request.only(b"origin"), request.only(b"origin-agent")) == ("c", "d")
    assert (request.all(b"cookie"), request.only(b"cookie")) == ([], None)


@pytest.mark.parametrize(
    ("headers", "tokens"),
    [
        ([], []),
        (["Bearer one"], ["one"]),
        (["BEARER   one "], ["one"]),
        (["Bearer"], [""]),
        (["Bearerone"], []),
        (["Basic one", "Bearer two"], ["two"]),
        (["Bearer one two"], ["one two"]),
    ],
)
def test_tokens_are_what_follows_bearer(headers: list[str], tokens: list[str]) -> None:
    scope = scope_of(headers=[("Authorization", each) for each in headers])
    assert Incoming(scope).tokens() == tokens


@pytest.mark.parametrize(
    ("scheme", "reached", "forwarded", "schemes"),
    [
        ("http", LOOPBACK, [], ("http",)),
        ("http", LOOPBACK, ["https"], ("http",)),
        ("https", LOOPBACK, [], ("https",)),
        ("http", LISTED, [], ("http", "https")),
        ("http", LISTED, ["https"], ("https",)),
        ("http", LISTED, ["http"], ("http", "https")),
        ("http", LISTED, ["https", "http"], ("https",)),
    ],
)
def test_our_pages_came_by_the_scheme_that_is_known_or_by_any_that_may_be(
    scheme: str, reached: Reached, forwarded: list[str], schemes: tuple[str, ...]
) -> None:
    scope = scope_of(headers=[("X-Forwarded-Proto", each) for each in forwarded], scheme=scheme)
    assert Incoming(scope).schemes(reached) == schemes


def test_a_client_without_an_address_is_one_all_the_same() -> None:
    assert Incoming({**scope_of(), "client": None}).client == ""


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=8))
def test_no_header_is_too_odd_to_be_read(headers: list[tuple[bytes, bytes]]) -> None:
    names = (b"host", b"origin", b"authorization", b"cookie", b"sec-fetch-site", b"x-forwarded-proto")
    odd = [(name, value) for name in names for _, value in headers] + headers
    request = Incoming({**scope_of(), "headers": odd})
    assert len(request.sessions(8_000)) <= 4
    assert len(request.tokens()) <= len(odd)
    assert request.schemes(LOOPBACK) == ("http",)
