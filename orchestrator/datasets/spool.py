"""The files of a multipart upload, on the disk as they come: never whole in memory, each synced when it ends.

It knows nothing of datasets or pictures. What a client says of a file, its name and its type, is kept and not
believed.
"""

import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Self

import anyio
from anyio import to_thread

from contract.errors import BodyInvalid, BodyTooLarge, MediaTypeWrong, cut
from orchestrator.files.durable import unwritten

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: Parts of an upload, and bytes of the headers of one.
MAX_PARTS: Final = 10_000
MAX_HEADER_BYTES: Final = 16 * 1024
#: Bytes that are handed to the thread that writes.
_CHUNK: Final = 1024 * 1024
_MEDIA_TYPE: Final = b"multipart/form-data"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Part(NamedTuple):
    """A file that has come: its name as the client gave it, and where it is now."""

    name: str
    path: Path


@asynccontextmanager
async def spooled(
    folder: Path, content_type: str, body: AsyncIterable[bytes], max_bytes: int
) -> AsyncIterator[list[Part]]:
    """The files of a body, in `folder`, which is gone after the block with whatever is still in it.

    Raises MediaTypeWrong, BodyInvalid, BodyTooLarge and DiskFull.
    """
    boundary = _boundary(content_type)
    try:
        await to_thread.run_sync(_make, folder)
        with _Writer(folder, boundary, max_bytes) as writer:
            async for chunk in _gathered(body):
                await to_thread.run_sync(writer.write, chunk)
            writer.check_ended()
        yield writer.parts
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(_remove, folder)


def clear(uploads: Path) -> None:
    """Remove what older boots left of uploads."""
    if uploads.is_dir():
        for entry in uploads.iterdir():
            _remove(entry)


def _boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    media_type, options = parse_options_header(content_type)
    if media_type != _MEDIA_TYPE:
        raise MediaTypeWrong("Send the files as multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise BodyInvalid("The multipart body has no boundary of 1 to 70 characters.")
    return boundary


async def _gathered(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The body in pieces that are worth a change of threads."""
    gathered = bytearray()
    async for chunk in body:
        gathered += chunk
        if len(gathered) >= _CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


class _Writer:
    """What the parser calls; runs in threads, one after the other."""

    def __init__(self, folder: Path, boundary: bytes, max_bytes: int) -> None:
        from python_multipart.multipart import MultipartParser

        self.parts: list[Part] = []
        self._folder = folder
        self._max_bytes = max_bytes
        self._taken = 0
        self._file: BinaryIO | None = None
        self._has_ended = False
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._header_bytes = 0
        self._parser = MultipartParser(boundary, self._callbacks())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, data: bytes) -> None:
        """Take more of the body. Raises BodyInvalid, BodyTooLarge and DiskFull."""
        from python_multipart.exceptions import FormParserError

        self._taken += len(data)
        if self._taken > self._max_bytes:
            raise too_large(self._max_bytes)
        try:
            self._parser.write(data)
        except FormParserError:
            raise BodyInvalid("The body is no multipart/form-data.") from None
        except OSError as error:
            raise unwritten(error, self._folder) from error

    def check_ended(self) -> None:
        """Raises BodyInvalid for a body that is not whole."""
        if not self._has_ended:
            raise BodyInvalid("The body ended too early.")

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
            "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
            "on_headers_finished": self._open,
            "on_part_data": self._add,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise BodyTooLarge(f"The upload has more than {MAX_PARTS} files.")
        self._headers, self._header_bytes = [], 0

    def _add_header(self, side: int, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise BodyInvalid(f"The headers of a part have more than {MAX_HEADER_BYTES} bytes.")
        self._headers[-1][side].extend(data)

    def _open(self) -> None:
        path = self._folder / f"{len(self.parts):05}"
        self.parts.append(Part(_name(self._headers), path))
        self._file = open(os.open(path, _FLAGS, 0o666), "wb")

    def _add(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(memoryview(data)[start:end])

    def _close(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _end(self) -> None:
        self._has_ended = True


def too_large(max_bytes: int) -> BodyTooLarge:
    """More bytes than the settings allow."""
    return BodyTooLarge(
        f"The upload has more than {max_bytes} bytes.",
        hint="Send fewer files at once, or raise limits.max_upload_bytes in the settings.",
        details={"limit_bytes": max_bytes},
    )


def _name(headers: list[tuple[bytearray, bytearray]]) -> str:
    from python_multipart.multipart import parse_options_header

    values = {bytes(name).lower(): bytes(value) for name, value in headers}
    _, options = parse_options_header(values.get(b"content-disposition"))
    named = options.get(b"filename") or options.get(b"name") or b""
    # Browsers and curl write UTF-8, with %22 for a quote; what is none is still shown to people.
    return cut(named.decode("utf-8", "replace").replace("%22", '"'))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise unwritten(error, folder) from error


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
