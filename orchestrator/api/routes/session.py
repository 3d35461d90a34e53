"""Who is logged in, and how somebody else gets in."""

from typing import Annotated, Literal

import msgspec

from contract.base import Reply
from contract.errors import NotFound, NotReady, StateConflict
from orchestrator.access.access import Credential
from orchestrator.access.login_codes import GOOD_FOR_MS
from orchestrator.access.sessions import Session
from orchestrator.api.calls import Answer, Call
from orchestrator.api.guard import Visit, visit_of
from orchestrator.api.registry import Routes
from orchestrator.clock import now_ms, rfc3339
from orchestrator.serving.site import Site

routes = Routes("session")

SessionId = Annotated[str, msgspec.Meta(pattern=r"^session_[0-9A-Z]{26}\Z")]


class SessionView(Reply, kw_only=True):
    """A browser that logged in. `agent` is what it calls itself."""

    id: str
    agent: str
    created_at: str
    seen_at: str
    expires_at: str
    is_current: bool


class WhoView(Reply, kw_only=True):
    """Who asks: with the token, as a program on the studio's own machine (`local`), or with a session."""

    kind: Literal["token", "local", "session"]
    session: SessionView | None


class SessionPage(Reply, kw_only=True):
    """Every session, the one seen last first."""

    items: list[SessionView]
    next_cursor: str | None
    total: int


class LinkView(Reply, kw_only=True):
    """A link that logs one browser in. `urls` are all addresses of the studio with the same code."""

    url: str
    urls: list[str]
    expires_at: str


class TokenView(Reply, kw_only=True):
    """The new token. It is shown in this answer and never again."""

    token: str


@routes.get("/session")
async def read_session(call: Call) -> WhoView:
    """Say who asks."""
    by = _credential(call)
    return WhoView(kind=by.kind, session=next((each for each in _views(call) if each.is_current), None))


@routes.delete("/session", errors=(NotFound, StateConflict))
async def end_own_session(call: Call) -> Answer[None]:
    """Log out. The token stays good."""
    by = _credential(call)
    if by.kind != "session":
        raise StateConflict("Who comes with a token has no session to end.")
    await _site(call).access.end_session(by.id)
    return Answer(headers={"set-cookie": _visit(call).clear_cookie()})


@routes.get("/sessions")
async def list_sessions(call: Call) -> SessionPage:
    """List the browsers that are logged in."""
    items = _views(call)
    return SessionPage(items=items, next_cursor=None, total=len(items))


@routes.delete("/sessions/{session_id}")
async def end_session(call: Call, session_id: SessionId) -> None:
    """Log a browser out."""
    await _site(call).access.end_session(session_id)


@routes.post("/session/links", status=201, is_secret=True)
async def create_link(call: Call) -> LinkView:
    """Make a one-time link: it logs one browser in, within ten minutes."""
    link = _site(call).new_link()
    return LinkView(url=link.url, urls=list(link.urls), expires_at=rfc3339(now_ms() + GOOD_FOR_MS))


@routes.post("/session/token/rotate", errors=(StateConflict,), is_secret=True)
async def rotate_token(call: Call) -> TokenView:
    """Make a new token. The old one, every session and every link end at once."""
    return TokenView(token=await _site(call).access.rotate())


def _site(call: Call) -> Site:
    if call.studio.site is None:
        raise NotReady("No studio runs on this data directory.", hint="`lorakeet serve` starts one.")
    return call.studio.site


def _visit(call: Call) -> Visit:
    _site(call)
    return visit_of(call.request.scope)


def _credential(call: Call) -> Credential:
    by = _visit(call).by
    # The guard lets nobody get here without one.
    assert by is not None
    return by


def _views(call: Call) -> list[SessionView]:
    by = _credential(call)
    return [_view(each, by) for each in _site(call).access.sessions()]


def _view(session: Session, by: Credential) -> SessionView:
    return SessionView(
        id=session.id,
        agent=session.agent,
        created_at=rfc3339(session.created_ms),
        seen_at=rfc3339(session.seen_ms),
        expires_at=rfc3339(session.expires_ms),
        is_current=by == Credential("session", session.id),
    )
