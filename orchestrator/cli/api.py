"""The API as commands use it: that of the studio that runs on the data directory, else one of their own.

Where no studio runs, the command opens the store itself, under the lock, and calls the same application in
its own process: one code path, and the same answers.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import msgspec

from contract.errors import ErrorData, LorakeetError, NotReady, StoreLocked, WireError, from_wire, leaves
from orchestrator.serving.running import Running, find_running

if TYPE_CHECKING:
    import httpx

    from orchestrator.studio import Studio

PREFIX: Final = "/api/v1"
#: Seconds that a studio may take to begin an answer.
TIMEOUT_S: Final = 60.0
#: Seconds for which a data directory may be locked by a studio that starts or stops, or another command.
PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 0.05
#: Items asked for at once.
_PAGE: Final = 500

JSON = dict[str, Any]


class Api:
    """Made by `api`. Whatever it is asked raises the error that the studio answered with."""

    def __init__(self, client: "httpx.AsyncClient", studio: "Studio | None") -> None:
        self._client = client
        #: The studio of this very process; None where another one answers.
        self.own = studio

    async def get(self, path: str, **query: Any) -> JSON:
        """What is there."""
        return _said(await self.ask("GET", path, query=query))

    async def read(self, path: str) -> tuple[JSON, str]:
        """What is there, and its ETag."""
        answer = await self.ask("GET", path)
        return _said(answer), answer.headers["etag"]

    async def post(self, path: str, body: Any = None, **query: str | None) -> JSON:
        """Make or start something."""
        return _said(await self.ask("POST", path, query=query, body=body))

    async def change(self, method: str, path: str, body: Any, etag: str) -> JSON:
        """Replace or change the version whose ETag is `etag`."""
        return _said(await self.ask(method, path, body=body, headers={"if-match": etag}))

    async def delete(self, path: str, etag: str | None = None) -> None:
        """Delete something; its version is `etag`, where it has versions."""
        await self.ask("DELETE", path, headers={"if-match": etag} if etag else {})

    async def all(self, path: str, **query: Any) -> AsyncIterator[JSON]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get(path, limit=_PAGE, cursor=cursor, **query)
            for each in page["items"]:
                yield each
            if (cursor := page.get("next_cursor")) is None:
                return

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> "httpx.Response":
        """The answer to a request, which went well."""
        import httpx

        given = {name: value for name, value in (query or {}).items() if value is not None}
        content, kind = (None, {}) if body is None else (msgspec.json.encode(body), _JSON)
        try:
            answer = await self._client.request(
                method, PREFIX + path, params=given, content=content, headers={**kind, **(headers or {})}
            )
        except httpx.TransportError as error:
            raise _silent(error) from None
        if answer.is_success:
            return answer
        raise error_of(answer.content, answer.status_code)

    @asynccontextmanager
    async def stream(self, path: str, headers: Mapping[str, str], **query: str) -> AsyncIterator["Lines"]:
        """The lines of an answer that goes on and on. What breaks it off raises NotReady."""
        import httpx

        timeout = httpx.Timeout(TIMEOUT_S)
        try:
            async with self._client.stream(
                "GET", PREFIX + path, params=query, headers=dict(headers), timeout=timeout
            ) as answer:
                if not answer.is_success:
                    raise error_of(await answer.aread(), answer.status_code)
                yield answer.aiter_lines()
        except httpx.TransportError as error:
            raise _silent(error) from None


Lines = AsyncIterator[str]
_JSON: Final = {"content-type": "application/json"}


@asynccontextmanager
async def api(home: Path) -> AsyncIterator[Api]:
    """The API of a data directory.

    Raises StoreLocked, StoreTooNew, StoreDamaged, DiskFull and SettingsInvalid.
    """
    async with AsyncExitStack() as stack:
        yield await _connected(home, stack)


async def _connected(home: Path, stack: AsyncExitStack) -> Api:
    deadline = anyio.current_time() + PATIENCE_S
    while True:
        if (found := await running_api(home, stack)) is not None:
            return found
        try:
            return await _own(home, stack)
        except StoreLocked:
            # By a studio that starts, stops or hangs, or by another command like this one.
            if anyio.current_time() >= deadline:
                raise
        await anyio.sleep(_AGAIN_S)


async def running_api(home: Path, stack: AsyncExitStack) -> Api | None:
    """The API of the studio that runs on `home`; None where none does, or it does not answer."""
    running = find_running(home)
    token = running.token() if running else None
    if running is None or token is None:
        return None
    found = Api(await stack.enter_async_context(_client(running, token)), None)
    try:
        with anyio.move_on_after(PATIENCE_S):
            # The process may be another one by now, and whoever has its port too.
            if (await found.get(""))["boot_id"] == running.boot_id:
                return found
    except (LorakeetError, KeyError, TypeError):
        return None
    return None


def _client(running: Running, token: str) -> "httpx.AsyncClient":
    import httpx

    return httpx.AsyncClient(
        base_url=running.url,
        # By whatever address it is reached, this is a name that it always has.
        headers={"host": f"127.0.0.1:{urlsplit(running.url).port}", "authorization": f"Bearer {token}"},
        timeout=httpx.Timeout(TIMEOUT_S),
        # It is on this machine: no proxy, no certificates.
        trust_env=False,
        verify=False,
    )


async def _own(home: Path, stack: AsyncExitStack) -> Api:
    import httpx

    from orchestrator.serving.app import make_app
    from orchestrator.studio import open_studio

    studio = await stack.enter_async_context(open_studio(home, run=False))
    transport = httpx.ASGITransport(make_app(studio))
    client = httpx.AsyncClient(transport=transport, base_url="http://studio", timeout=None)
    return Api(await stack.enter_async_context(client), studio)


def error_of(content: bytes, status: int) -> LorakeetError:
    """The error that a problem stands for, with the words it would have had without HTTP in between."""
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        return NotReady(f"The studio answered {status}, and said nothing that can be understood.")
    data = ErrorData(kind=problem.code, retryable=problem.retryable, where=problem.where, hint=problem.hint)
    code = next((leaf.code for leaf in leaves() if leaf.kind == problem.code), _UNKNOWN)
    return from_wire(WireError(code=code, message=problem.detail, data=data))


class _Problem(msgspec.Struct):
    """What counts of a problem here."""

    code: str
    detail: str
    where: str | None = None
    hint: str | None = None
    retryable: bool = False


#: Something about the studio that this version does not know.
_UNKNOWN: Final = 5000


def _said(answer: "httpx.Response") -> JSON:
    body: JSON = msgspec.json.decode(answer.content) if answer.content else {}
    return body


def _silent(error: Exception) -> NotReady:
    return NotReady(
        f"The studio does not answer: {error or type(error).__name__}.",
        hint="It may have stopped; the same command says more when it is given again.",
    )
