"""Paths that try to leave their roots, in everything of a request that can hold a path or a name."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest

from orchestrator.api.calls import FileAnswer
from orchestrator.api.operations import operations
from orchestrator.api.registry import Operation
from tests.e2e.journey import begun, picture, tagging
from tests.e2e.owned import HOST, Owned, owned
from tests.e2e.raw_http import Line, Reply, request_bytes
from tests.e2e.samples import body_of, path_of, texts_in, with_text
from tests.e2e.state import files
from tests.orchestrator.traversal import CANARY, PAYLOADS, plant

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="plants links, which only administrators may")

ROOT: Final = "pics"
#: Fields that hold a path or a part of one, each tried with everything.
PATHS: Final = ("file", "files", "folder", "output", "path", "root")
#: Fields that hold a name, each tried with some of it; and the one of which a folder's name is made.
NAMES: Final = ("id", "kind", "name", "preset")
NAMES_A_FOLDER: Final = "create_dataset"
#: Beside the least that each takes: what is needed for the field to be looked at.
_PHOTO: Final = {"root": ROOT, "path": "photo.png"}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "create_job": {**tagging("ds"), "source": {"files": [_PHOTO]}},
    "create_dataset": {"name": "In place", "folder": {"root": ROOT, "path": "folder"}},
}
#: Its paths are the user's own choice of folders, which is what makes roots of them.
CHOSEN: Final = ("change_settings",)
#: Inside of what only Python knows as settings.
SETTINGS: Final = (("create_job", ("settings", "model")), ("create_job", ("settings", "model", "path")))

_READ_OF_SYSTEM: Final = b"root:x:0:"


class Place(NamedTuple):
    """A text within the body of an operation."""

    operation: Operation
    way: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.operation.name}: {'.'.join(map(str, self.way))}"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root in it, the data directory, and what must not be reached from either."""
    arena = tmp_path_factory.mktemp("arena")
    root, home = arena / "root", arena / "home"
    plant(root)
    for own in ("datasets", "models", "outputs"):
        plant(home / own)
    settings = f'[[roots]]\nid = "{ROOT}"\npath = "{root}"\n'
    (home / "settings.toml").write_text(settings, encoding="utf-8")
    return arena


@pytest.fixture(scope="module")
def studio(arena: Path) -> Iterator[Owned]:
    """One that takes jobs and starts none."""
    with owned(arena / "home") as opened:
        with opened.client() as client:
            etag = client.get("/queue").headers["etag"]
            paused = client.patch("/queue", json={"paused": True}, headers={"if-match": etag})
            paused.raise_for_status()
        yield opened


@pytest.fixture(scope="module")
def ids(studio: Owned) -> dict[str, str]:
    """Of what is there, by the names in addresses."""
    made = begun(studio)
    with studio.client() as client:
        job = client.post("/jobs", json=tagging(made["dataset_id"])).raise_for_status().json()
    return {**made, "job_id": job["id"]}


def _headers(studio: Owned, media_type: str = "application/json") -> list[tuple[str, str]]:
    return [
        ("Host", f"{HOST}:{studio.port}"),
        ("Authorization", f"Bearer {studio.token}"),
        ("Content-Type", media_type),
        ("If-Match", "*"),
    ]


def _places() -> Iterator[Place]:
    chosen = [each for each in operations() if each.body is not None and each.name not in CHOSEN]
    for operation in chosen:
        for field in texts_in(operation.body):
            if field.name in (*PATHS, *NAMES):
                yield Place(operation, field.way)
        yield from (Place(operation, way) for name, way in SETTINGS if name == operation.name)


def _payloads(place: Place) -> Sequence[str]:
    is_path = place.way[-1] in (*PATHS, "model") or place.operation.name == NAMES_A_FOLDER
    return PAYLOADS if is_path else PAYLOADS[::4]


def _bodies(place: Place) -> Iterator[bytes]:
    operation = place.operation
    least = BODIES.get(operation.name) or json.loads(body_of(operation))
    for payload in _payloads(place):
        if place.way[0] == "settings":
            model: Any = payload if place.way[-1] == "model" else {"path": payload}
            body = {**least, "settings": {"model": model}}
        else:
            body = with_text(least, operation.body, place.way, payload)
        yield json.dumps(body).encode()


def _ask(studio: Owned, requests: Sequence[bytes]) -> list[Reply]:
    with Line(HOST, studio.port) as line:
        return line.ask(requests)


def _is_told(replies: Sequence[Reply]) -> bool:
    """Whether anything from outside was."""
    return any(CANARY.strip() in each.body or _READ_OF_SYSTEM in each.body for each in replies)


def _outside(arena: Path) -> dict[str, str]:
    """Everything but what the studio makes by itself, below its own roots and in its databases."""
    home = str(arena / "home")
    return {path: what for path, what in files(arena).items() if not path.startswith(f"{home}/datasets/")}


@pytest.mark.parametrize("place", list(_places()), ids=str)
def test_no_path_and_no_name_in_a_body_leads_out_of_a_root(
    place: Place, arena: Path, studio: Owned, ids: dict[str, str]
) -> None:
    before = _outside(arena)
    path = path_of(place.operation, ids)
    headers = _headers(studio)
    replies = _ask(
        studio, [request_bytes(place.operation.method, path, headers, body) for body in _bodies(place)]
    )
    assert {reply.status for reply in replies} <= {200, 201, 202, 404, 409, 412, 422}
    if place.way[-1] in ("path", "root"):
        accepted = [payload for payload, reply in zip(PAYLOADS, replies, strict=True) if reply.status < 400]
        assert accepted in ([], [""])
    assert not _is_told(replies)
    assert _outside(arena) == before


def _with_parameters() -> list[Operation]:
    return [each for each in operations() if each.path_types]


@pytest.mark.parametrize("operation", _with_parameters(), ids=lambda operation: operation.name)
def test_no_name_in_an_address_leads_out_of_a_root(operation: Operation, arena: Path, studio: Owned) -> None:
    before = _outside(arena)
    some = PAYLOADS if operation.reply is FileAnswer else PAYLOADS[::9]
    headers = _headers(studio)
    requests = [
        request_bytes(operation.method, path_of(operation, {name: written}), headers)
        for name in operation.path_types
        for payload in some
        for written in _written(payload)
    ]
    replies = _ask(studio, requests)
    assert {reply.status // 100 for reply in replies} == {4}
    assert not _is_told(replies)
    assert _outside(arena) == before


def _written(payload: str) -> Iterator[str]:
    """As it stands in an address: quoted, and bare where HTTP lets it through."""
    yield quote(payload, safe="") or "%20"
    if payload and payload.isascii() and payload.isprintable() and not set(payload) & set(' ?#"<>\\^`{|}'):
        yield payload


def test_no_name_of_an_upload_leads_out_of_its_dataset(
    arena: Path, studio: Owned, ids: dict[str, str]
) -> None:
    before = _outside(arena)
    with studio.client() as client:
        path = f"/datasets/{ids['dataset_id']}/images"
        # What is no form takes its whole request with it.
        for start in range(0, len(PAYLOADS), 8):
            parts = [_upload(start + place, name) for place, name in enumerate(PAYLOADS[start : start + 8])]
            reply = client.post(path, files=parts)
            assert reply.status_code in (200, 400, 422), reply.text
            assert CANARY.strip() not in reply.content
        named = client.get(path, params={"limit": 1_000}).json()["items"]
    assert len(named) > len(PAYLOADS) / 4
    folder = arena / "home" / "datasets"
    assert [each["path"] for each in named if "/" in each["path"] or "\\" in each["path"]] == []
    assert [path for path in folder.rglob("*") if path.is_symlink() and not _is_planted(path)] == []
    assert _outside(arena) == before


def _upload(number: int, name: str) -> tuple[str, tuple[str, bytes, str]]:
    return ("file", (name, picture((8 + number, 8)), "image/png"))


def _is_planted(path: Path) -> bool:
    return path.name.startswith("link-")


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="../../file"; filename="photo.png"',
        'form-data; name="file"; filename="photo.png"; filename*=UTF-8\'\'..%2F..%2Fphoto.png',
        "form-data; name=\"file\"; filename*=UTF-8''%2Fetc%2Fpasswd",
        'form-data; name="file"; filename="photo.png\0/../../photo.png"',
        'form-data; name="file"; filename=../../photo.png',
        'form-data; name="file"; filename="C:\\photo.png"; filename="../photo.png"',
        'attachment; name="file"; filename="../photo.png"',
    ],
)
def test_no_header_of_a_part_leads_out_of_its_dataset(
    disposition: str, arena: Path, studio: Owned, ids: dict[str, str]
) -> None:
    before = _outside(arena)
    head = f"--x\r\nContent-Disposition: {disposition}\r\nContent-Type: image/png\r\n\r\n"
    body = head.encode() + picture() + b"\r\n--x--\r\n"
    headers = _headers(studio, "multipart/form-data; boundary=x")
    path = f"/api/v1/datasets/{ids['dataset_id']}/images"
    (reply,) = _ask(studio, [request_bytes("POST", path, headers, body)])
    assert reply.status in (200, 400, 422)
    assert _outside(arena) == before
