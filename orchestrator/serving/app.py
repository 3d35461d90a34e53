"""The studio as an ASGI application: the registry's routes, and an answer of ours for everything else."""

import re
import secrets
from collections.abc import Iterable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import LorakeetError, MethodNotAllowed, NotFound, StudioError
from orchestrator.api.endpoint import Endpoint, endpoint, problem
from orchestrator.api.operations import operations
from orchestrator.studio import Studio

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def make_app(studio: Studio) -> ASGIApp:
    """Everything that is served, without the guard that stands in front of it."""
    return Numbered(router(studio))


def router(studio: Studio, pages: Iterable[BaseRoute] = ()) -> Starlette:
    """The routes of the registry, and `pages` beside them."""
    methods: dict[str, dict[str, Endpoint]] = {}
    for each in operations():
        methods.setdefault(each.full_path, {})[each.method] = endpoint(each, studio)
    routes = [Route(path, _by_method(table), methods=list(table)) for path, table in methods.items()]
    app = Starlette(routes=[*routes, *pages], exception_handlers={HTTPException: _refused})
    app.router.redirect_slashes = False
    return app


def _by_method(table: dict[str, Endpoint]) -> Endpoint:
    async def choose(request: Request) -> Response:
        return await table["GET" if request.method == "HEAD" else request.method](request)

    return choose


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(_explained(request, error), request)


def _explained(request: Request, error: HTTPException) -> LorakeetError:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(
            f"{request.method} is not possible here.", details={"headers": {"allow": allowed}}
        )
    if error.status_code == 404:
        return NotFound("There is nothing of that name.")
    raise StudioError(f"The router answered {error.status_code}.") from error


class Numbered:
    """Gives every request an id, or takes the client's, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        number = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()
        scope["lorakeet.request_id"] = number.decode()

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", number)]
            await send(message)

        await self._app(scope, receive, numbered)
