"""Which texts are names of the studio, and which pages are its own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.hosts import (
    LOOPBACK,
    Authority,
    Hosts,
    Origin,
    Reached,
    parse_authority,
    parse_origin,
)

HOSTS = Hosts(8_123, (Authority("studio.example"), Authority("192.0.2.7", 41_234)))
#: Texts of the characters that a host can have, and a few that it cannot.
NEAR = st.text("127.0localhstudiexmp[]:-@/ %,0x\t", max_size=24)
TEXTS = st.one_of(st.text(max_size=40), NEAR)


def _expected(host: str) -> bool:
    """The same said in another way: a list of every text that is right, for names without a free port."""
    lowered = host.lower() if host.isascii() else host
    if lowered in {f"{name}:8123" for name in LOOPBACK} | {"192.0.2.7:41234", "studio.example"}:
        return True
    name, _, port = lowered.partition(":")
    return (
        name == "studio.example" and port in {str(number) for number in range(1, 65_536)} and port.isascii()
    )


@settings(deadline=None)
@given(TEXTS)
def test_no_text_but_a_name_of_the_studio_passes(host: str) -> None:
    assert (HOSTS.find(host, "http") is not None) == _expected(host)


@settings(deadline=None)
@given(st.sampled_from(sorted(LOOPBACK) + ["studio.example"]), st.text(min_size=1, max_size=3))
def test_a_name_with_anything_before_or_behind_it_is_another(name: str, more: str) -> None:
    for host in (f"{more}{name}:8123", f"{name}{more}:8123", f"{name}:8123{more}"):
        assert (HOSTS.find(host, "http") is not None) == _expected(host)


@settings(deadline=None)
@given(st.sampled_from(["127.0.0.1:8123", "studio.example"]), st.data())
def test_the_case_of_letters_does_not_matter(host: str, data: st.DataObject) -> None:
    written = "".join(each.upper() if data.draw(st.booleans()) else each for each in host)
    assert HOSTS.find(written, "http") == HOSTS.find(host, "http")


def test_letters_that_only_look_like_ours_are_others() -> None:
    # Lower-casing turns the Kelvin sign into a k, and to a regular expression fullwidth digits are digits.
    assert HOSTS.find("stud\u0130o.example", "http") is None
    assert Hosts(1, (Authority("k.example"),)).find("\u212a.example", "http") is None
    assert HOSTS.find("127.0.0.1:\uff18\uff11\uff12\uff13", "http") is None


@pytest.mark.parametrize(
    ("host", "scheme", "port", "is_found"),
    [
        ("localhost", "http", 80, True),
        ("localhost", "https", 443, True),
        ("localhost", "http", 443, False),
        ("localhost", "https", 80, False),
        ("localhost", "ftp", 80, False),
        ("localhost", "http", 8_123, False),
        ("localhost:80", "http", 80, True),
    ],
)
def test_a_port_is_left_out_where_it_is_the_standard_one_only(
    host: str, scheme: str, port: int, is_found: bool
) -> None:
    assert (Hosts(port).find(host, scheme) is not None) == is_found


@pytest.mark.parametrize(
    ("listed", "host", "is_found"),
    [
        (Authority("studio.example", 443), "studio.example", True),
        (Authority("studio.example", 80), "studio.example", True),
        (Authority("studio.example", 8_443), "studio.example", False),
        (Authority("studio.example", 8_443), "studio.example:8443", True),
        (Authority("studio.example", 8_443), "studio.example:8444", False),
        (Authority("localhost", 9_000), "localhost:9000", True),
    ],
)
def test_a_name_that_was_listed_with_its_port_is_good_with_it_only(
    listed: Authority, host: str, is_found: bool
) -> None:
    assert (Hosts(8_123, (listed,)).find(host, "http") is not None) == is_found


@settings(deadline=None)
@given(TEXTS)
def test_an_authority_reads_as_it_is_written(text: str) -> None:
    authority = parse_authority(text)
    assert authority is None or str(authority) == text.lower()


@settings(deadline=None)
@given(TEXTS.map(lambda text: f"http://{text}"))
def test_an_origin_is_a_scheme_a_name_and_a_port_and_nothing_else(text: str) -> None:
    origin = parse_origin(text)
    assert origin is None or str(origin) == text.lower().removesuffix(":80")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "studio.example",
        "HTTP://studio.example",
        "ftp://studio.example",
        "http://",
        "file://",
    ],
)
def test_what_is_no_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    ("reached", "origin", "is_own"),
    [
        (Reached("localhost", 8_123, False), "http://localhost:8123", True),
        (Reached("localhost", 8_123, False), "http://localhost", False),
        (Reached("localhost", None, False), "http://localhost", True),
        (Reached("localhost", None, False), "http://localhost:8123", False),
        (Reached("studio.example", None, True), "https://studio.example", True),
        (Reached("studio.example", None, True), "https://studio.example:8443", False),
        (Reached("studio.example", 8_443, True), "https://studio.example:8443", True),
        (Reached("studio.example", 443, True), "https://studio.example", True),
        (Reached("studio.example", 443, True), "http://studio.example", False),
    ],
)
def test_a_page_is_ours_where_its_origin_is_the_host_that_it_asks(
    reached: Reached, origin: str, is_own: bool
) -> None:
    parsed = parse_origin(origin)
    assert parsed is not None
    assert reached.is_origin(parsed, ("http", "https")) == is_own


def test_an_origin_is_written_as_browsers_do() -> None:
    assert str(Origin("https", "studio.example", 443)) == "https://studio.example"
    assert str(Origin("http", "[::1]", 8_123)) == "http://[::1]:8123"
