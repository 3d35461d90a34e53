"""What is for browsers and no part of the API: the front page, the login, and the files of the web pages."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from contract.errors import LorakeetError, Unauthorized
from orchestrator.api.calls import FileAnswer
from orchestrator.api.file_response import FileResponse
from orchestrator.api.guard import visit_of
from orchestrator.api.html import INDEX, NEW_LINK, TOKEN_FORM, escape, page, text
from orchestrator.api.incoming import Incoming
from orchestrator.api.problems import status_of
from orchestrator.api.requests import raw_body
from orchestrator.serving.site import LOGIN, Site

Handler = Callable[[Request], Awaitable[Response]]

#: A form with a token in it.
_MAX_FORM_BYTES: Final = 16 * 1024
_ELSEWHERE: Final = ("cross-site", "same-site")
_INDEX: Final = "index.html"
_STYLE: Final = Path(__file__).with_name("plain.css")
#: Where a build puts files whose names change with their content.
_ASSETS: Final = "assets"
#: Nothing else is in a build; what a system's table of types says does not count.
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


def web_routes(site: Site, bundle: Path | None) -> list[BaseRoute]:
    """The front page, the login and, where there is a build of the web pages in `bundle`, its files."""
    own = [
        Route(LOGIN, _login(site), methods=["GET", "POST"]),
        Route(f"/{_STYLE.name}", _file(_STYLE, immutable=False), methods=["GET"]),
    ]
    if bundle is None:
        return [*own, Route("/", _index(site), methods=["GET"])]
    front = Route("/", _file(bundle / _INDEX, immutable=False), methods=["GET"])
    return [*own, front, *_files(bundle)]


def find_bundle() -> Path | None:
    """The folder of the web pages: in an installed package, or in a clone."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "static", package.parent / "web" / "dist")
    return next((each for each in folders if (each / _INDEX).is_file()), None)


def open_paths(routes: list[BaseRoute]) -> frozenset[str]:
    """The paths of these routes, all of which answer without a token: none of them tells anything."""
    return frozenset(each.path for each in routes if isinstance(each, Route))


def _index(site: Site) -> Handler:
    async def show(request: Request) -> Response:
        logged_in = site.access.check_session(_cookies(request)) is not None
        about = INDEX.format(address=escape(f"{request.url.scheme}://{request.headers['host']}"))
        return page("Lorakeet", about, *(() if logged_in else (NEW_LINK, TOKEN_FORM)))

    return show


def _login(site: Site) -> Handler:
    async def log_in(request: Request) -> Response:
        try:
            if request.method == "POST":
                return _logged_in(request, await _by_token(site, request))
            # Only a GET uses the code up: programs that look what a link leads to send HEAD.
            if request.method == "GET" and (code := request.query_params.get("code")):
                return _logged_in(request, await _by_code(site, request, code))
        except LorakeetError as error:
            if site.access.check_session(_cookies(request)) is not None:
                return _to_front(request)
            return _refused(error)
        return page("Log in", NEW_LINK, TOKEN_FORM)

    return log_in


async def _by_code(site: Site, request: Request, code: str) -> str:
    return await site.access.log_in(code, _agent(request), visit_of(request.scope).client)


async def _by_token(site: Site, request: Request) -> str:
    form = parse_qs((await raw_body(request, _MAX_FORM_BYTES)).decode("utf-8", "replace"))
    token = form.get("token", [""])[0].strip()
    if not token:
        raise Unauthorized("No token came with the form.")
    site.access.check_token(token, visit_of(request.scope).client)
    return await site.access.start_session(_agent(request))


def _logged_in(request: Request, secret: str) -> Response:
    response = _to_front(request)
    response.headers["set-cookie"] = visit_of(request.scope).set_cookie(secret)
    return response


def _to_front(request: Request) -> Response:
    """On to the front page, with the session that the browser has by now."""
    if request.headers.get("sec-fetch-site") not in _ELSEWHERE:
        return RedirectResponse("/", status_code=303)
    # Who followed a link in a mail or a terminal of the web is still coming from there after a redirect, and
    # the browser would hold our cookie back; it comes from here after a page of ours.
    response = page("Lorakeet", '<p><a href="/">Go on</a></p>')
    response.headers["refresh"] = "0; url=/"
    return response


def _refused(error: LorakeetError) -> Response:
    hint = [text(error.hint)] if error.hint else []
    response = page("Log in", text(error.message), *hint, NEW_LINK, TOKEN_FORM, status=status_of(type(error)))
    for name, value in error.details.get("headers", {}).items():
        response.headers[name] = value
    return response


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


def _cookies(request: Request) -> list[str]:
    return Incoming(request.scope).sessions(visit_of(request.scope).port)


def _files(bundle: Path) -> Iterator[Route]:
    for path in sorted(bundle.rglob("*")):
        if path.suffix in _MEDIA_TYPES and path.is_file():
            name = path.relative_to(bundle).as_posix()
            handler = _file(path, immutable=name.startswith(f"{_ASSETS}/"))
            yield Route(f"/{name}", handler, methods=["GET"])


def _file(path: Path, *, immutable: bool) -> Handler:
    answer = FileAnswer(path=path, media_type=_MEDIA_TYPES[path.suffix], inline=True, immutable=immutable)

    async def send(request: Request) -> Response:
        return FileResponse(answer, request.headers)

    return send
