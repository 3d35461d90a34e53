"""What the guard looks at in a request: as the server parsed it, every header as often as it was sent."""

from typing import Final

from starlette.types import Scope

from orchestrator.api.cookies import sent_secrets
from orchestrator.api.hosts import DEFAULT_PORTS, Reached

_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))


class Incoming:
    """One request."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.scheme: str = scope.get("scheme", "http")
        self.client: str = (scope.get("client") or ("",))[0]
        self._headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            self._headers.setdefault(name.lower(), []).append(value.decode("latin-1"))

    def all(self, name: bytes) -> list[str]:
        """Every value of a header, as often as it was sent."""
        return self._headers.get(name, [])

    def only(self, name: bytes) -> str | None:
        """The value of a header that was sent once."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    @property
    def is_safe(self) -> bool:
        """Whether it changes nothing, by its method."""
        return self.method in _SAFE

    @property
    def is_preflight(self) -> bool:
        """Whether a browser only asks if it may send something."""
        return self.method == "OPTIONS" and bool(self.all(b"access-control-request-method"))

    @property
    def opens_a_page(self) -> bool:
        """Whether a tab is to show a page of ours, as by a link on another site; never one of the API."""
        return (
            self.method == "GET"
            and self.only(b"sec-fetch-mode") == "navigate"
            and self.only(b"sec-fetch-dest") == "document"
            and self.path.startswith("/")
            and not f"{self.path}/".startswith("/api/")
        )

    def is_https(self, reached: Reached) -> bool:
        """Whether the browser speaks TLS: with us, or with the proxy of a name that the user listed."""
        forwarded = ",".join(self.all(b"x-forwarded-proto")).partition(",")[0].strip().lower()
        return self.scheme == "https" or (reached.is_listed and forwarded == "https")

    def schemes(self, reached: Reached) -> tuple[str, ...]:
        """The schemes that our own pages can have come by."""
        if self.is_https(reached):
            return ("https",)
        # What a proxy in front of a listed name speaks, it need not say.
        return tuple(DEFAULT_PORTS) if reached.is_listed else (self.scheme,)

    def sessions(self, port: int) -> list[str]:
        """The secrets of sessions that came as cookies."""
        return sent_secrets(self.all(b"cookie"), port)

    def tokens(self) -> list[str]:
        """What came as `Authorization: Bearer`. Other schemes are between the browser and a proxy."""
        pairs = (each.strip().partition(" ") for each in self.all(b"authorization"))
        return [token.strip() for scheme, _, token in pairs if scheme.lower() == "bearer"]
