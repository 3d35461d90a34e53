"""Where the studio listens and under which names it may then be reached, from flags and the environment.

Pure functions. A rented machine is on the Internet by default: beyond loopback the studio starts only where
somebody, or the machine's provider, has said what it is called from outside.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from contract.errors import SettingsInvalid
from orchestrator.api.hosts import LOOPBACK, Authority, Hosts, Origin, parse_authority, parse_origin

HOSTS_VARIABLE: Final = "LORAKEET_HOSTS"
HOSTS_FLAG: Final = "--allow-host"
HOSTS_SETTING: Final = "access.hosts"


class Provided(NamedTuple):
    """The address that the provider of a rented machine gives the studio."""

    host: Authority
    scheme: str

    @property
    def url(self) -> str:
        """What its user opens."""
        return f"{self.scheme}://{self.host}"


def listed_hosts(
    flags: Iterable[str], environ: Mapping[str, str], port: int, *, settings: Iterable[str] = ()
) -> tuple[Authority, ...]:
    """Every name beyond loopback: of `--allow-host`, LORAKEET_HOSTS, the settings and the provider.

    Raises SettingsInvalid.
    """
    variable = environ.get(HOSTS_VARIABLE, "").replace(",", " ").split()
    said = ((HOSTS_FLAG, flags), (HOSTS_VARIABLE, variable), (HOSTS_SETTING, settings))
    given = [_listed(text, where) for where, texts in said for text in texts]
    return tuple(dict.fromkeys([*given, *(each.host for each in provided_addresses(environ, port))]))


def provided_addresses(environ: Mapping[str, str], port: int) -> list[Provided]:
    """What RunPod and Vast.ai say of themselves.

    From their documentation, tried on neither: RunPod's proxy at `https://POD-PORT.proxy.runpod.net`, and the
    port of Vast.ai's public address that leads to ours. Where a proxy sends another Host, the studio answers
    421 and names it.
    """
    found = []
    if pod := environ.get("RUNPOD_POD_ID"):
        found.append(("https", f"{pod}-{port}.proxy.runpod.net"))
    address, outer = environ.get("PUBLIC_IPADDR"), environ.get(f"VAST_TCP_PORT_{port}")
    if address and outer:
        found.append(("http", f"{address}:{outer}"))
    return [Provided(host, scheme) for scheme, text in found if (host := parse_authority(text)) is not None]


def check_binding(bind: str, listed: Collection[Authority]) -> None:
    """Raises SettingsInvalid where other machines would get in and no name is listed. A token always is."""
    if is_loopback(bind) or listed:
        return
    raise SettingsInvalid(
        f"Listening on {bind or 'every address'} lets other machines in, but no name is allowed.",
        where="--host",
        hint=f"Say what browsers will show as the address: {HOSTS_FLAG} NAME[:PORT], or {HOSTS_VARIABLE}.",
    )


def hosts_of(bind: str, port: int, listed: tuple[Authority, ...]) -> Hosts:
    """The names of a studio that listens on `bind` and `port`."""
    own = parse_authority(bind) or parse_authority(f"[{bind}]")
    return Hosts(port, listed, LOOPBACK | {own.name} if own and is_loopback(bind) else LOOPBACK)


def is_loopback(bind: str) -> bool:
    """Whether only this machine can reach what listens on `bind`."""
    from ipaddress import ip_address

    try:
        return bind.lower() == "localhost" or ip_address(bind).is_loopback
    except ValueError:
        return False


def listed_origins(texts: Iterable[str]) -> frozenset[Origin]:
    """Origins whose pages may use the API with a token, from the settings. Raises SettingsInvalid."""
    return frozenset(_origin(each) for each in texts)


def _origin(text: str) -> Origin:
    origin = parse_origin(text)
    if origin is None:
        raise SettingsInvalid(
            f"`{text}` is not an origin.", where=text, hint="Write it as https://NAME or https://NAME:PORT."
        )
    return origin


def _listed(text: str, where: str) -> Authority:
    authority = parse_authority(text)
    if authority is None:
        raise SettingsInvalid(
            f"`{text}` is not the name of a host.",
            where=where,
            hint="Write NAME or NAME:PORT, without https:// and without *; IPv6 addresses in brackets.",
        )
    return authority
