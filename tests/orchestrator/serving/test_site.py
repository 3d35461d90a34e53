"""Where people and programs find a studio."""

import pytest

from orchestrator.api.binding import listed_hosts
from orchestrator.serving.site import addresses, local_address


@pytest.mark.parametrize(
    ("bind", "flags", "environ", "expected"),
    [
        ("127.0.0.1", [], {}, ["http://127.0.0.1:7878"]),
        ("localhost", [], {}, ["http://localhost:7878"]),
        ("::1", [], {}, ["http://[::1]:7878"]),
        # Names are for those who come from outside, and here nobody can.
        ("127.0.0.1", ["studio.example"], {}, ["http://127.0.0.1:7878"]),
        ("0.0.0.0", ["studio.example"], {}, ["http://studio.example:7878"]),
        ("0.0.0.0", ["studio.example:80", "b"], {}, ["http://studio.example:80", "http://b:7878"]),
        ("0.0.0.0", [], {"RUNPOD_POD_ID": "pod1"}, ["https://pod1-7878.proxy.runpod.net"]),
        (
            "0.0.0.0",
            ["studio.example"],
            {"PUBLIC_IPADDR": "203.0.113.7", "VAST_TCP_PORT_7878": "40001"},
            ["http://203.0.113.7:40001", "http://studio.example:7878"],
        ),
    ],
)
def test_addresses_are_what_people_open_the_likeliest_first(
    bind: str, flags: list[str], environ: dict[str, str], expected: list[str]
) -> None:
    listed = listed_hosts(flags, environ, 7878)
    assert list(addresses(bind, 7878, listed, environ)) == expected


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("192.0.2.7", "http://192.0.2.7:1"),
    ],
)
def test_programs_on_the_machine_have_an_address_that_can_be_reached(bind: str, expected: str) -> None:
    assert local_address(bind, 1) == expected
