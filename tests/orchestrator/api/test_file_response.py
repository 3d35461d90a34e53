"""Files over HTTP: whole, in parts, not again, and never through a link."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from contract.errors import RangeInvalid
from orchestrator.api.calls import FileAnswer
from orchestrator.api.file_response import CHUNK, FileResponse, Part, part_of

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 12 * (CHUNK // 1024) + b"the end"


class Folder:
    """Serves the files of a folder by their names, as a handler would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        answer = FileAnswer(path=self.path / scope["path"][1:], media_type="application/x-test")
        await FileResponse(answer, headers)(scope, receive, send)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "data.bin").write_bytes(DATA)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / 'ünï "code".txt').write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "data.bin", tmp_path / "link")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Folder(tmp_path)), base_url="http://s") as c:
        yield c


async def test_a_file_arrives_whole(client: httpx.AsyncClient) -> None:
    response = await client.get("/data.bin")
    assert (response.status_code, response.content) == (200, DATA)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-disposition"].startswith("attachment")


async def test_an_empty_file_arrives_empty(client: httpx.AsyncClient) -> None:
    response = await client.get("/empty")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=-7", len(DATA) - 7, len(DATA)),
        (f"bytes={CHUNK - 1}-{CHUNK * 2}", CHUNK - 1, CHUNK * 2 + 1),
        ("bytes=100-", 100, len(DATA)),
        ("bytes=5-99999999999", 5, len(DATA)),
        ("bytes=-99999999999", 0, len(DATA)),
    ],
)
async def test_a_part_is_sent_alone(client: httpx.AsyncClient, asked: str, start: int, end: int) -> None:
    response = await client.get("/data.bin", headers={"range": asked})
    assert response.status_code == 206
    assert response.content == DATA[start:end]
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=1-0", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=a-b", ""])
async def test_a_range_that_means_nothing_is_ignored(client: httpx.AsyncClient, asked: str) -> None:
    response = await client.get("/data.bin", headers={"range": asked})
    assert (response.status_code, response.content) == (200, DATA)


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=99999999999-", "bytes=-0"])
async def test_a_range_outside_is_a_problem(client: httpx.AsyncClient, asked: str) -> None:
    response = await client.get("/data.bin", headers={"range": asked})
    assert (response.status_code, response.json()["code"]) == (416, "range_invalid")
    assert response.headers["content-range"] == f"bytes */{len(DATA)}"


async def test_a_file_that_is_known_is_not_sent_again(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/data.bin")).headers["etag"]
    response = await client.get("/data.bin", headers={"if-none-match": etag})
    assert (response.status_code, response.content) == (304, b"")


async def test_a_part_of_a_file_that_changed_is_the_whole_file(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    etag = (await client.get("/data.bin")).headers["etag"]
    (tmp_path / "data.bin").write_bytes(b"new")
    response = await client.get("/data.bin", headers={"range": "bytes=0-0", "if-range": etag})
    assert (response.status_code, response.content) == (200, b"new")


async def test_head_tells_the_size_and_sends_nothing(client: httpx.AsyncClient) -> None:
    response = await client.head("/data.bin")
    assert (response.headers["content-length"], response.content) == (str(len(DATA)), b"")


@pytest.mark.parametrize("name", ["nothing", "folder"])
async def test_what_is_no_file_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_link_is_not_followed(client: httpx.AsyncClient) -> None:
    response = await client.get("/link")
    assert response.status_code >= 400
    assert response.headers["content-type"] == "application/problem+json"


async def test_any_name_fits_into_the_header(client: httpx.AsyncClient) -> None:
    response = await client.get('/ünï "code".txt')
    assert response.headers["content-disposition"].endswith("%C3%BCn%C3%AF%20%22code%22.txt")


def test_a_range_of_an_empty_file_lies_outside() -> None:
    with pytest.raises(RangeInvalid):
        part_of("bytes=0-", 0)
    assert part_of("bytes=0-4", 9) == Part(0, 5)
