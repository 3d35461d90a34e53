"""The studio as a server: opens it, answers on its socket, says where it is, and stops in good order."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from socket import socket
from typing import Final

import anyio
import anyio.to_thread
import msgspec
import uvicorn
from starlette.types import ASGIApp

from contract.errors import LorakeetError, SettingsInvalid, StoreLocked
from orchestrator import __version__
from orchestrator.access.access import Access, Opened, open_access
from orchestrator.api.binding import check_binding, hosts_of, listed_hosts, listed_origins
from orchestrator.api.guard import Guard
from orchestrator.api.hosts import Hosts
from orchestrator.api.metrics import Metered
from orchestrator.api.web import find_bundle, open_paths, web_routes
from orchestrator.groups import task_group
from orchestrator.serving import browser, door
from orchestrator.serving.app import Numbered, router
from orchestrator.serving.http_protocol import HttpProtocol
from orchestrator.serving.log_file import logging_to
from orchestrator.serving.running import announced, find_running
from orchestrator.serving.site import Link, Site, addresses, local_address
from orchestrator.settings import load
from orchestrator.store.lock import lock
from orchestrator.studio import Studio, open_studio

#: Seconds that requests may take to end when the studio stops.
STOP_S: Final = 3
#: Seconds that a connection may be idle between two requests.
KEEP_ALIVE_S: Final = 15


class Ready(msgspec.Struct, kw_only=True, frozen=True):
    """What the studio says once it answers. `token` is there at the very first start only."""

    url: str
    link: str
    links: tuple[str, ...]
    boot_id: str
    pid: int
    token: str | None


async def serve(
    home: Path,
    *,
    host: str,
    port: int,
    hosts: Sequence[str],
    token: str | None,
    with_browser: bool,
    on_ready: Callable[[Ready], None],
) -> None:
    """Run the studio of `home` until canceled. `token` is one from outside, good for this run.

    Raises SettingsInvalid (also for an address in use), StoreLocked, StoreTooNew, StoreDamaged, DiskFull and
    FileUnwritable.
    """
    named = [*hosts, *load(home).access.hosts]
    with _at_the_door(home, host, port) as own_door:
        port = door.port_of(own_door)
        listed = listed_hosts(named, os.environ, port)
        check_binding(host, listed)
        door.listen(own_door, host)
        async with _opened(home) as studio:
            opened = await open_access(studio.control, given=token)
            local = local_address(host, port)
            studio.site = Site(opened.access, addresses(host, port, listed, os.environ), local)
            app = _guarded(studio, studio.site, hosts_of(host, port, listed))
            async with _answering(app, own_door, studio), _beside(studio, opened.access):
                about = (local, studio.boot.boot_id, __version__, opened.local)
                with announced(home, *about), browser.tidied(home):
                    on_ready(_ready(studio, studio.site, opened))
                    await _show(home, studio.site.new_link() if with_browser else None)
                    await anyio.sleep_forever()


@contextmanager
def _at_the_door(home: Path, host: str, port: int) -> Iterator[socket]:
    try:
        own = door.bind(host, port)
    except SettingsInvalid:
        # The likeliest program that has our port is this very studio.
        with _explained(home), lock(home):
            raise
    with own:
        yield own


@asynccontextmanager
async def _opened(home: Path) -> AsyncIterator[Studio]:
    with _explained(home):
        async with open_studio(home) as studio:
            with logging_to(home, studio.boot.boot_id, studio.keys.redactor):
                yield studio


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Where a studio has the data directory, say which."""
    try:
        yield
    except StoreLocked as error:
        if (running := find_running(home)) is not None:
            error.message = f"The studio runs already, at {running.url} (process {running.pid})."
            error.hint = "`lorakeet link` prints a link that logs a browser in."
        raise


def _guarded(studio: Studio, site: Site, hosts: Hosts) -> ASGIApp:
    """The whole application, from outside in: a number, the clock, the guard, the routes."""
    pages = web_routes(site, find_bundle())
    guard = Guard(
        router(studio, pages),
        site.access,
        hosts,
        origins=listed_origins(studio.settings.current.access.origins),
        open_paths=open_paths(pages),
    )
    return Numbered(Metered(guard, studio.requests))


def _ready(studio: Studio, site: Site, opened: Opened) -> Ready:
    link = site.new_link()
    return Ready(
        url=site.addresses[0],
        link=link.url,
        links=link.urls,
        boot_id=studio.boot.boot_id,
        pid=os.getpid(),
        token=opened.minted,
    )


async def _show(home: Path, link: Link | None) -> None:
    if link is not None:
        await anyio.to_thread.run_sync(browser.open_browser, home, link.url, abandon_on_cancel=True)


@asynccontextmanager
async def _beside(studio: Studio, access: Access) -> AsyncIterator[None]:
    """What goes on beside the requests."""
    async with task_group() as tasks:
        tasks.start_soon(access.keep_seen)
        tasks.start_soon(studio.lag.watch)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), suppress(LorakeetError):
                await access.save_seen()


@asynccontextmanager
async def _answering(app: ASGIApp, own_door: socket, studio: Studio) -> AsyncIterator[None]:
    """Answer requests for as long as the block lasts, then finish those that are under way."""
    server = _Server(_config(app))
    async with task_group() as tasks:
        tasks.start_soon(server.run_to_the_end, own_door)
        await server.answering.wait()
        try:
            yield
        finally:
            server.should_exit = True
            # Streams never end by themselves.
            studio.events.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # Whether to believe a proxy, the guard decides.
        proxy_headers=False,
        server_header=False,
        backlog=door.BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )


class _Server(uvicorn.Server):
    """uvicorn, without its hands on the signals: the command line has them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = anyio.Event()

    async def run_to_the_end(self, own_door: socket) -> None:
        """Serve until `should_exit`, even if canceled: being canceled is how the studio is stopped."""
        with anyio.CancelScope(shield=True):
            await self.serve(sockets=[own_door])

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()
