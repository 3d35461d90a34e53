"""A file on the wire: opened once, never through a link, with ranges and validators (RFC 9110)."""

import os
import re
import stat
import sys
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final, NamedTuple
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contract.errors import FileUnreadable, LorakeetError, NotFound, RangeInvalid
from orchestrator.api.calls import FileAnswer, matches
from orchestrator.api.problems import problem_response

#: Read and sent at once; a thumbnail goes in one piece.
CHUNK: Final = 256 * 1024
_YEAR_S: Final = 31_536_000
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Part(NamedTuple):
    """Bytes `start` to before `end` of a file."""

    start: int
    end: int


class FileResponse(Response):
    """Sends what a FileAnswer names."""

    def __init__(self, answer: FileAnswer, headers: Mapping[str, str]) -> None:
        self.answer = answer
        self.asked = headers
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            file, status = await anyio.to_thread.run_sync(_opened, self.answer)
        except LorakeetError as error:
            await _refuse(scope, send, error)
            return
        try:
            await self._send(scope, send, file, status)
        finally:
            os.close(file)

    async def _send(self, scope: Scope, send: Send, file: int, status: os.stat_result) -> None:
        tag = self.answer.etag or f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = self._described(tag, status)
        if matches(self.asked.get("if-none-match", '""'), tag):
            await _start(send, 304, headers)
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            part = self._part(tag, status.st_size)
        except RangeInvalid as error:
            await _refuse(scope, send, error)
            return
        whole = part is None
        part = part or Part(0, status.st_size)
        headers["content-length"] = str(part.end - part.start)
        if not whole:
            headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{status.st_size}"
        await _start(send, 200 if whole else 206, headers)
        await _pour(send, file, Part(0, 0) if scope["method"] == "HEAD" else part)

    def _described(self, tag: str, status: os.stat_result) -> dict[str, str]:
        caching = f"private, max-age={_YEAR_S}, immutable" if self.answer.immutable else "no-cache"
        name = quote(self.answer.name or self.answer.path.name, safe="", errors="replace")
        placing = "inline" if self.answer.inline else "attachment"
        return {
            "content-type": self.answer.media_type,
            "content-disposition": f"{placing}; filename*=UTF-8''{name}",
            "etag": tag,
            "last-modified": formatdate(status.st_mtime, usegmt=True),
            "accept-ranges": "bytes",
            "cache-control": caching,
        }

    def _part(self, tag: str, size: int) -> Part | None:
        """What is asked for; None for the whole file. Raises RangeInvalid."""
        if "range" not in self.asked or self.asked.get("if-range", tag) != tag:
            return None
        return part_of(self.asked["range"], size)


def part_of(text: str, size: int) -> Part | None:
    """What a Range header asks of a file of `size` bytes; None where it may be ignored.

    Several ranges at once are ignored, as RFC 9110 allows. Raises RangeInvalid.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= end:
        raise RangeInvalid(
            f"The file has {size} bytes.", details={"headers": {"content-range": f"bytes */{size}"}}
        )
    return Part(start, end)


def _opened(answer: FileAnswer) -> tuple[int, os.stat_result]:
    try:
        file = os.open(answer.path, _FLAGS) if answer.open is None else answer.open()
    except FileNotFoundError:
        raise NotFound("The file is not there any more.") from None
    except OSError as error:
        raise FileUnreadable(f"The file cannot be read: {os.strerror(error.errno or 0)}.") from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise NotFound("There is no file of that name.")
    return file, status


async def _pour(send: Send, file: int, part: Part) -> None:
    place = part.start
    while place < part.end:
        chunk = await anyio.to_thread.run_sync(_read, file, min(CHUNK, part.end - place), place)
        if not chunk:
            # Shorter than it was: the length was promised, so the connection has to break.
            raise ConnectionAbortedError("a file shrank while it was sent")
        place += len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": place < part.end})
    if part.start == part.end:
        await send({"type": "http.response.body", "body": b""})


def _read(file: int, size: int, place: int) -> bytes:
    if sys.platform != "win32":
        return os.pread(file, size, place)
    os.lseek(file, place, os.SEEK_SET)
    return os.read(file, size)


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _refuse(scope: Scope, send: Send, error: LorakeetError) -> None:
    status, headers, body = problem_response(
        error, request_id=scope.get("lorakeet.request_id"), instance=scope["path"]
    )
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
