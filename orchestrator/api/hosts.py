"""Names of the studio: what a Host and an Origin header may say. Pure functions; nothing is resolved.

A name is compared as it is written, so another spelling of an address (decimal, mapped into IPv6, with a dot
at its end) is another name. Browsers write all of them in one way.
"""

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final, NamedTuple

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LOOPBACK: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))

_AUTHORITY: Final = re.compile(
    r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([1-9][0-9]{0,4}))?", re.ASCII | re.IGNORECASE
)
_MAX_PORT: Final = 65_535


class Authority(NamedTuple):
    """`name[:port]`, the name in lower case and an IPv6 address in brackets."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


class Origin(NamedTuple):
    """Where a page is from."""

    scheme: str
    name: str
    port: int

    def __str__(self) -> str:
        """As browsers write it."""
        port = None if self.port == DEFAULT_PORTS[self.scheme] else self.port
        return f"{self.scheme}://{Authority(self.name, port)}"


class Reached(NamedTuple):
    """The name and port by which a client reached the studio; `is_listed` if the user named them."""

    name: str
    port: int | None
    is_listed: bool

    def is_origin(self, origin: Origin, schemes: Container[str]) -> bool:
        """Whether a page of `origin` is one of the very studio that was reached."""
        port = self.port or DEFAULT_PORTS[origin.scheme]
        return origin.scheme in schemes and (origin.name, origin.port) == (self.name, port)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names under which the studio answers: of loopback with its port, and those that were listed."""

    port: int
    listed: tuple[Authority, ...] = ()
    loopback: frozenset[str] = LOOPBACK

    def find(self, host: str, scheme: str) -> Reached | None:
        """What the text of a Host header means; None where it does not mean this studio."""
        sent = parse_authority(host)
        if sent is None:
            return None
        if sent.name in self.loopback and self.port == (sent.port or DEFAULT_PORTS.get(scheme)):
            return Reached(sent.name, sent.port, is_listed=False)
        if any(_fits(sent, each) for each in self.listed):
            return Reached(sent.name, sent.port, is_listed=True)
        return None


def parse_authority(text: str) -> Authority | None:
    """`text` as `name[:port]`; None where it is anything else, such as empty or with a user's name."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    port = int(found[2]) if found[2] else None
    return None if port is not None and port > _MAX_PORT else Authority(found[1].lower(), port)


def parse_origin(text: str) -> Origin | None:
    """`text` as `http[s]://name[:port]`; None where it is anything else, such as `null`."""
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest)
    if not separator or authority is None or scheme not in DEFAULT_PORTS:
        return None
    return Origin(scheme, authority.name, authority.port or DEFAULT_PORTS[scheme])


def _fits(sent: Authority, listed: Authority) -> bool:
    """A proxy that speaks TLS hides the port, so a name that was listed without one fits with any."""
    if sent.name != listed.name:
        return False
    return listed.port is None or sent.port == listed.port or (not sent.port and listed.port in (80, 443))
