"""Events on the wire: chunks as they come, for as long as the client takes them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.groups import task_group

#: Seconds that a client may leave a chunk untaken before its connection is given up.
STALLED_S: Final = 60.0


class StreamResponse(Response):
    """An answer of `text/event-stream` that ends when either side has enough."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        self.chunks = chunks
        self.status_code = 200
        self.background = None
        self.body = b""
        # A proxy that gathers answers would hold events back.
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        async with task_group() as tasks:
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope.cancel)
            await self._pour(send)
            tasks.cancel_scope.cancel()

    async def _pour(self, send: Send) -> None:
        async with aclosing(self.chunks):
            async for chunk in self.chunks:
                with anyio.move_on_after(STALLED_S) as patience:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if patience.cancelled_caught:
                    # Half a chunk may be on its way: the connection cannot be used for anything else.
                    raise ConnectionAbortedError("the reader of a stream has stalled")
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, gone: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()
