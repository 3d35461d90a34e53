"""Where the studio may listen, and what it is then called."""

from collections.abc import Mapping

import pytest

from contract.errors import SettingsInvalid
from orchestrator.api.binding import (
    check_binding,
    hosts_of,
    is_loopback,
    listed_hosts,
    listed_origins,
    provided_addresses,
)
from orchestrator.api.hosts import Authority, Origin

OUTSIDE = [
    "0.0.0.0",
    "::",
    "",
    "192.0.2.7",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "studio.example",
    "127.0.0.1.evil",
]
INSIDE = ["127.0.0.1", "127.0.0.9", "::1", "localhost", "LOCALHOST"]


@pytest.mark.parametrize("bind", OUTSIDE)
def test_beyond_loopback_nothing_starts_without_a_name(bind: str) -> None:
    assert not is_loopback(bind)
    with pytest.raises(SettingsInvalid, match="no name is allowed") as refused:
        check_binding(bind, ())
    assert "--allow-host" in (refused.value.hint or "")
    assert "LORAKEET_HOSTS" in (refused.value.hint or "")


@pytest.mark.parametrize("bind", OUTSIDE)
def test_beyond_loopback_a_name_is_enough(bind: str) -> None:
    check_binding(bind, [Authority("studio.example")])


@pytest.mark.parametrize("bind", INSIDE)
def test_on_loopback_no_name_is_needed(bind: str) -> None:
    assert is_loopback(bind)
    check_binding(bind, ())


def test_names_come_from_flags_the_environment_and_the_settings_and_count_once() -> None:
    environ = {"LORAKEET_HOSTS": "b.example, A.example:41234\tb.example"}
    assert listed_hosts(["Studio.Example", "b.example"], environ, 8_000, settings=["c.example"]) == (
        Authority("studio.example"),
        Authority("b.example"),
        Authority("a.example", 41_234),
        Authority("c.example"),
    )
    assert listed_hosts([], {}, 8_000) == listed_hosts([], {"LORAKEET_HOSTS": " , "}, 8_000) == ()


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.example", "https://a.example", "a.example/", "a.example.", "2001:db8::1", "a:0", "a:99999"],
)
def test_what_is_no_name_is_refused_with_where_it_stands(text: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        listed_hosts([text], {}, 8_000)
    assert refused.value.where == "--allow-host"


def test_a_wrong_name_in_the_environment_or_the_settings_is_refused_too() -> None:
    with pytest.raises(SettingsInvalid, match=r"`\*` is not the name of a host") as refused:
        listed_hosts([], {"LORAKEET_HOSTS": "a.example,*"}, 8_000)
    assert refused.value.where == "LORAKEET_HOSTS"
    with pytest.raises(SettingsInvalid) as refused:
        listed_hosts([], {}, 8_000, settings=["a.example:99999"])
    assert refused.value.where == "access.hosts"


@pytest.mark.parametrize(
    ("environ", "urls"),
    [
        ({"RUNPOD_POD_ID": "abc123xyz"}, ["https://abc123xyz-8000.proxy.runpod.net"]),
        ({"PUBLIC_IPADDR": "192.0.2.7", "VAST_TCP_PORT_8000": "41234"}, ["http://192.0.2.7:41234"]),
        ({"PUBLIC_IPADDR": "192.0.2.7", "VAST_TCP_PORT_8001": "41234"}, []),
        ({"PUBLIC_IPADDR": "192.0.2.7", "VAST_TCP_PORT_8000": ""}, []),
        ({"PUBLIC_IPADDR": "not an address", "VAST_TCP_PORT_8000": "41234"}, []),
        ({"RUNPOD_POD_ID": ""}, []),
        ({}, []),
    ],
)
def test_a_rented_machine_knows_what_it_is_called(environ: Mapping[str, str], urls: list[str]) -> None:
    assert [each.url for each in provided_addresses(environ, 8_000)] == urls
    assert [str(each) for each in listed_hosts([], environ, 8_000)] == [
        url.partition("://")[2] for url in urls
    ]


@pytest.mark.parametrize(
    ("bind", "name"),
    [("127.0.0.9", "127.0.0.9"), ("::1", "[::1]"), ("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")],
)
def test_an_address_of_loopback_is_a_name_where_the_studio_listens_on_it(bind: str, name: str) -> None:
    hosts = hosts_of(bind, 8_000, ())
    assert hosts.find(f"{name}:8000", "http") is not None
    assert hosts.find("localhost:8000", "http") is not None


@pytest.mark.parametrize("bind", OUTSIDE)
def test_any_other_address_is_a_name_only_if_it_is_listed(bind: str) -> None:
    hosts = hosts_of(bind, 8_000, (Authority("studio.example"),))
    assert hosts.loopback == hosts_of("127.0.0.1", 8_000, ()).loopback
    assert hosts.find("studio.example", "http") is not None


def test_origins_are_listed_whole() -> None:
    assert listed_origins(["https://tool.example", "http://localhost:5173"]) == {
        Origin("https", "tool.example", 443),
        Origin("http", "localhost", 5_173),
    }


@pytest.mark.parametrize("text", ["*", "null", "tool.example", "https://tool.example/", "https://*.example"])
def test_what_is_no_origin_cannot_be_listed(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="is not an origin"):
        listed_origins([text])
