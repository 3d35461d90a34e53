"""How a studio that runs is reached: its addresses, who may use it, and links that let a browser in."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from orchestrator.access.access import Access
from orchestrator.api.binding import is_loopback, provided_addresses
from orchestrator.api.hosts import Authority

LOGIN: Final = "/login"


class Link(NamedTuple):
    """Addresses that all log in with the same code: one of them, once, within ten minutes."""

    urls: tuple[str, ...]

    @property
    def url(self) -> str:
        """The one to try first."""
        return self.urls[0]


class Site(NamedTuple):
    """`addresses` are what people open, the likeliest first; `local` is for programs on this machine."""

    access: Access
    addresses: tuple[str, ...]
    local: str

    def new_link(self) -> Link:
        """A link that logs one browser in."""
        code = self.access.new_code()
        return Link(tuple(f"{each}{LOGIN}?code={code}" for each in self.addresses))


def addresses(
    bind: str, port: int, listed: tuple[Authority, ...], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Where people find a studio that listens on `bind`: as its provider says, then as they said."""
    if is_loopback(bind):
        return (local_address(bind, port),)
    provided = provided_addresses(environ, port)
    named = [each for each in listed if each not in [of.host for of in provided]]
    return (
        *(each.url for each in provided),
        # A proxy that speaks TLS may stand in front of a name without a port; nobody has told us.
        *(f"http://{each if each.port else Authority(each.name, port)}" for each in named),
    )


def local_address(bind: str, port: int) -> str:
    """Where programs on this machine find it."""
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    host = everywhere.get(bind, bind)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
