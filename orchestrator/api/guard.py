"""The door: what comes in by HTTP passes here first, and every answer leaves by it with its headers.

Decides on what the server parsed (`scope`), never on an address rebuilt from headers. Browsers alone do not
keep other pages away: they send our cookie with requests of a page on another port of this machine, and the
page of a name that was pointed at this machine has an Origin equal to its Host. See docs/security.md.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from contract.errors import AccessError, CrossSite, HostRefused, Unauthorized
from orchestrator.access.access import Access, Credential
from orchestrator.api.cookies import clear_cookie, set_cookie
from orchestrator.api.hosts import Hosts, Origin, Reached, parse_authority, parse_origin
from orchestrator.api.incoming import Incoming
from orchestrator.api.outgoing import Outgoing
from orchestrator.api.problems import problem_response

#: Paths that answer anybody who knows our name, and tell nothing.
HEALTH: Final = frozenset(("/healthz", "/readyz"))
#: Paths that answer without token and session, but not to pages of others.
OPEN: Final = frozenset(("/login",))
#: Where the guard puts the Visit.
KEY: Final = "lorakeet.visit"

_POLICY_VIOLATION: Final = 1008


class Visit(NamedTuple):
    """What the guard knows of a request that it let in. `by` is None on paths that need no token."""

    client: str
    port: int
    is_https: bool
    by: Credential | None

    def set_cookie(self, secret: str) -> str:
        """The Set-Cookie header that begins a session."""
        return set_cookie(self.port, secret, is_https=self.is_https)

    def clear_cookie(self) -> str:
        """The Set-Cookie header that ends it."""
        return clear_cookie(self.port, is_https=self.is_https)


def visit_of(scope: Scope) -> Visit:
    """The visit that a request is."""
    visit: Visit = scope[KEY]
    return visit


class Guard:
    """An ASGI application around another one. `origins` may use the API from their pages, with the token."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        hosts: Hosts,
        *,
        origins: Collection[Origin] = (),
        open_paths: Collection[str] = OPEN,
    ) -> None:
        self._app = app
        self._access = access
        self._hosts = hosts
        self._origins = origins
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, Outgoing(send, varies=bool(self._origins)))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, outgoing: Outgoing) -> None:
        try:
            visit = self._let_in(Incoming(scope), outgoing)
        except AccessError as error:
            request_id = scope.get("lorakeet.request_id")
            await outgoing.answer(*problem_response(error, request_id=request_id, instance=scope["path"]))
            return
        if visit is None:
            await outgoing.preflight()
            return
        scope[KEY] = visit
        await self._app(scope, receive, outgoing)

    def _let_in(self, request: Incoming, outgoing: Outgoing) -> Visit | None:
        """The request as a visit; None where a browser asks for a page of a listed origin if it may come.

        Raises HostRefused, CrossSite, Unauthorized and TooManyAttempts.
        """
        reached = self._reached(request)
        port = reached.port or self._hosts.port
        visit = Visit(request.client, port, request.is_https(reached), None)
        if request.path in HEALTH:
            return visit
        outgoing.granted = self._listed_origin(request, reached)
        if outgoing.granted is None:
            _check_fetch_metadata(request)
        elif request.is_preflight:
            return None
        if request.path in self._open:
            return visit
        return visit._replace(by=self._key(request, port, with_cookies=outgoing.granted is None))

    def _reached(self, request: Incoming) -> Reached:
        host = request.only(b"host")
        reached = None if host is None else self._hosts.find(host, request.scheme)
        if reached is None:
            named = parse_authority(host or "")
            raise HostRefused(
                f"This studio is not known as {named}."
                if named
                else "The request names no host, or no valid one.",
                hint="If it should be, start it with --allow-host and that name, or set LORAKEET_HOSTS.",
            )
        return reached

    def _listed_origin(self, request: Incoming, reached: Reached) -> Origin | None:
        """The origin of the page that asks, where it is not ours but one that the user listed."""
        if not request.all(b"origin"):
            return None
        origin = parse_origin(request.only(b"origin") or "")
        if origin is not None and reached.is_origin(origin, request.schemes(reached)):
            return None
        if origin is None or origin not in self._origins:
            raise CrossSite("A page of another origin asked for this.", hint=_ORIGINS)
        return origin

    def _key(self, request: Incoming, port: int, *, with_cookies: bool) -> Credential:
        if tokens := request.tokens():
            if len(request.all(b"authorization")) > 1:
                raise Unauthorized("Authorization was sent more than once.")
            return self._access.check_token(tokens[0], request.client)
        found = self._access.check_session(request.sessions(port)) if with_cookies else None
        if found is None:
            raise Unauthorized("Neither a token nor a session came with the request.", hint=_LOG_IN)
        # A browser says where a change comes from; a cookie that comes without a word of it proves nothing.
        if not request.is_safe and not (request.all(b"origin") or request.all(b"sec-fetch-site")):
            raise CrossSite("A change with a cookie must say where it comes from.", hint=_SAY_ORIGIN)
        return found


_ORIGINS: Final = "Pages of other origins may use the API where the settings list them, with the token."
_LOG_IN: Final = "Open the link that `lorakeet link` prints, or send the token as `Authorization: Bearer`."
_SAY_ORIGIN: Final = "Browsers do so by themselves; programs send the token as `Authorization: Bearer`."


def _check_fetch_metadata(request: Incoming) -> None:
    """Raises CrossSite where the browser says that the page of somebody else asks."""
    sites = request.all(b"sec-fetch-site")
    if not sites or sites in (["same-origin"], ["none"]) or (len(sites) == 1 and request.opens_a_page):
        return
    raise CrossSite("A page of another origin asked for this.", hint=_ORIGINS)
