"""The socket of the studio, and what is said where there is none to have."""

import socket
import sys

import pytest

from contract.errors import SettingsInvalid
from orchestrator.serving.door import bind, listen, port_of


def test_port_0_takes_any_that_is_free() -> None:
    with bind("127.0.0.1", 0) as door:
        listen(door, "127.0.0.1")
        with socket.create_connection(("127.0.0.1", port_of(door))):
            pass


def test_a_port_that_another_program_listens_on_is_refused_with_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=f"Port {port} is in use") as caught:
            bind("127.0.0.1", port)
    assert caught.value.where == "--port"


@pytest.mark.skipif(sys.platform == "win32", reason="there the second cannot even bind it")
def test_of_two_that_have_bound_a_port_one_can_listen() -> None:
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", port_of(first)) as second:
        listen(first, "127.0.0.1")
        with pytest.raises(SettingsInvalid, match="in use"):
            listen(second, "127.0.0.1")


@pytest.mark.parametrize("host", ["no such host", "ünicode..", "203.0.113.7"])
def test_an_address_that_this_machine_does_not_have_is_refused(host: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        bind(host, 0)
    assert caught.value.where == "--host"
