"""Images and captions over HTTP: uploaded, listed, filtered, captioned, undone, deleted."""

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.studio import Studio
from tests.orchestrator.datasets.shelf import PHOTOGRAPHS, SHIPPED
from tests.orchestrator.traversal import CANARY

pytestmark = pytest.mark.anyio


class Dataset:
    """A dataset of photographs, through its client."""

    def __init__(self, client: httpx.AsyncClient, id: str, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.url = f"/datasets/{id}"

    async def upload(self, *files: tuple[str, bytes]) -> dict[str, Any]:
        response = await self.client.post(f"{self.url}/images", files=[("file", each) for each in files])
        assert response.status_code == 200, response.text
        report: dict[str, Any] = response.json()
        return report

    async def list(self, **params: Any) -> dict[str, Any]:
        response = await self.client.get(f"{self.url}/images", params=params)
        assert response.status_code == 200, response.text
        page: dict[str, Any] = response.json()
        return page

    async def image(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in (await self.list())["items"] if each["path"] == path)
        return found

    async def caption(self, path: str, kind: str = "tags") -> str:
        return f"{self.url}/images/{(await self.image(path))['id']}/captions/{kind}"

    async def put(self, path: str, text: str, **headers: str) -> httpx.Response:
        url = await self.caption(path)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if not given:
            given = {"if-match": (await self.client.get(url)).headers["etag"]}
        return await self.client.put(url, json={"text": text}, headers=given)


@pytest.fixture
async def dataset(client: httpx.AsyncClient, studio: Studio) -> Dataset:
    created = (await client.post("/datasets", json={"name": "Cats"})).json()
    made = Dataset(client, created["id"], studio.home / "datasets" / created["path"])
    await made.upload(*((name, (SHIPPED / name).read_bytes()) for name in PHOTOGRAPHS))
    return made


async def test_an_upload_reports_every_file(dataset: Dataset) -> None:
    chelsea = (SHIPPED / "chelsea.png").read_bytes()
    report = await dataset.upload(("new.png", chelsea), ("chelsea.png", chelsea), ("x.svg", b"<svg/>"))
    assert (report["created"], report["already_there"], report["refused"]) == (1, 1, 1)
    assert [each["status"] for each in report["items"]] == ["created", "already_there", "refused"]
    assert report["items"][0]["path"] == "new.png"
    assert report["items"][2]["problem"]["code"] == "image_invalid"


async def test_an_upload_that_is_too_large_is_refused_at_once(dataset: Dataset, studio: Studio) -> None:
    settings = studio.settings
    await settings.change({"limits": {"max_upload_bytes": 10_000}}, settings.etag)
    files = [("file", ("big.png", (SHIPPED / "chelsea.png").read_bytes()))]
    response = await dataset.client.post(f"{dataset.url}/images", files=files)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert (await dataset.list())["total"] == 4


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=a", 400),
        (b"", "multipart/form-data; boundary=a", 400),
    ],
)
async def test_a_body_that_is_no_upload_is_refused(
    dataset: Dataset, content: bytes, content_type: str, status: int
) -> None:
    response = await dataset.client.post(
        f"{dataset.url}/images", content=content, headers={"content-type": content_type}
    )
    assert response.status_code == status, response.text


async def test_the_same_upload_again_has_its_effect_once(dataset: Dataset) -> None:
    files = [("file", ("new.png", (SHIPPED / "chelsea.png").read_bytes()))]
    headers = {"idempotency-key": "abc"}
    first = await dataset.client.post(f"{dataset.url}/images", files=files, headers=headers)
    again = await dataset.client.post(f"{dataset.url}/images", files=files, headers=headers)
    assert again.json() == first.json()
    assert (await dataset.list())["total"] == 5


async def test_pages_follow_each_other_without_a_gap(dataset: Dataset) -> None:
    paths, cursor = [], None
    while True:
        page = await dataset.list(limit=1, **({"cursor": cursor} if cursor else {}))
        assert page["total"] == 4
        paths += [each["path"] for each in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paths == sorted(PHOTOGRAPHS)


async def test_images_are_found_by_name_caption_and_problem(dataset: Dataset) -> None:
    await dataset.put("chelsea.png", "a cat")
    (dataset.folder / "coffee.txt").write_bytes(b"caf\xe9")
    await dataset.list()

    async def found(**params: Any) -> list[str]:
        return [each["path"] for each in (await dataset.list(**params))["items"]]

    assert await found(q="COFF") == ["coffee.png"]
    assert await found(q="_") == []
    assert await found(q="%") == []
    assert await found(captioned="true") == ["chelsea.png"]
    assert await found(captioned="false") == ["astronaut.png", "coffee.png", "rocket.jpg"]
    assert await found(has_problem="true") == ["coffee.png"]
    assert len(await found(has_problem="false")) == 3
    assert await found(q="c", captioned="true", has_problem="false") == ["chelsea.png"]


async def test_a_list_shows_what_an_editor_has_written(dataset: Dataset) -> None:
    (dataset.folder / "chelsea.txt").write_bytes(b"an editor's cat")
    assert (await dataset.image("chelsea.png"))["captions"]["tags"]["text"] == "an editor's cat"
    edits = (await dataset.client.get(f"{dataset.url}/edits")).json()
    assert [each["author"] for each in edits["items"]] == ["outside"]


async def test_a_caption_is_read_written_and_removed(dataset: Dataset) -> None:
    url = await dataset.caption("chelsea.png")
    absent = await dataset.client.get(url)
    assert (absent.status_code, absent.json()["text"]) == (200, None)
    written = await dataset.put("chelsea.png", "  a cat\n")
    assert (written.status_code, written.json()["text"], written.json()["is_written"]) == (200, "a cat", True)
    etag = written.headers["etag"]
    read = await dataset.client.get(url)
    assert (read.json(), read.headers["etag"]) == (written.json(), etag)
    same = await dataset.client.get(url, headers={"if-none-match": etag})
    assert (same.status_code, same.content) == (304, b"")
    removed = await dataset.client.delete(url, headers={"if-match": etag})
    assert removed.status_code in (200, 204), removed.text
    assert not (dataset.folder / "chelsea.txt").exists()


async def test_a_change_must_be_of_the_version_that_is_there(dataset: Dataset) -> None:
    url = await dataset.caption("chelsea.png")
    blind = await dataset.client.put(url, json={"text": "a cat"})
    assert (blind.status_code, blind.json()["code"]) == (428, "version_required")
    assert (await dataset.put("chelsea.png", "a cat", if_none_match="*")).status_code == 200
    second = await dataset.put("chelsea.png", "another cat", if_none_match="*")
    assert (second.status_code, second.json()["code"]) == (412, "stale_version")
    etag = (await dataset.client.get(url)).headers["etag"]
    (dataset.folder / "chelsea.txt").write_bytes(b"an editor's cat")
    late = await dataset.put("chelsea.png", "another cat", if_match=etag)
    assert (late.status_code, late.json()["code"]) == (412, "stale_version")
    assert (dataset.folder / "chelsea.txt").read_bytes() == b"an editor's cat"
    assert (await dataset.client.delete(url)).status_code == 428


@pytest.mark.parametrize("body", [{}, {"text": None}, {"text": "a\x00b"}, {"text": "a", "kind": "tags"}])
async def test_a_wrong_caption_is_refused(dataset: Dataset, body: Any) -> None:
    url = await dataset.caption("chelsea.png")
    assert (await dataset.client.put(url, json=body, headers={"if-match": "*"})).status_code == 422


async def test_there_are_two_kinds_of_captions(dataset: Dataset) -> None:
    url = await dataset.caption("chelsea.png", "nonsense")
    assert (await dataset.client.get(url)).status_code == 404
    url = await dataset.caption("chelsea.png", "caption")
    headers = {"if-none-match": "*"}
    assert (await dataset.client.put(url, json={"text": "A cat."}, headers=headers)).status_code == 200
    assert (dataset.folder / "chelsea.caption").read_bytes() == b"A cat.\n"


async def test_the_history_is_shown_and_undone(dataset: Dataset) -> None:
    for text in ("a cat", "two cats"):
        await dataset.put("chelsea.png", text)
    page = (await dataset.client.get(f"{dataset.url}/edits", params={"limit": 1})).json()
    assert (page["total"], len(page["items"])) == (2, 1)
    edit = page["items"][0]
    detail = (await dataset.client.get(f"{dataset.url}/edits/{edit['id']}")).json()
    assert detail["edit"] == edit
    (change,) = detail["items"]
    assert (change["path"], change["before"], change["after"]) == ("chelsea.png", "a cat", "two cats")
    reverted = await dataset.client.post(f"{dataset.url}/edits/{edit['id']}/revert")
    assert reverted.status_code == 201, reverted.text
    made = reverted.json()
    assert (made["edit"]["action"], made["edit"]["reverts"], made["edit"]["kept"]) == (
        "revert",
        edit["id"],
        0,
    )
    assert (dataset.folder / "chelsea.txt").read_bytes() == b"a cat\n"
    again = await dataset.client.post(f"{dataset.url}/edits/{edit['id']}/revert")
    image = await dataset.image("chelsea.png")
    assert again.json()["kept_examples"] == [{"image_id": image["id"], "kind": "tags"}]
    assert (await dataset.client.post(f"{dataset.url}/edits/edit_{'0' * 26}/revert")).status_code == 404


async def test_an_undo_that_is_asked_for_twice_is_done_once(dataset: Dataset) -> None:
    await dataset.put("chelsea.png", "a cat")
    (edit,) = (await dataset.client.get(f"{dataset.url}/edits")).json()["items"]
    headers = {"idempotency-key": "abc"}
    first = await dataset.client.post(f"{dataset.url}/edits/{edit['id']}/revert", headers=headers)
    again = await dataset.client.post(f"{dataset.url}/edits/{edit['id']}/revert", headers=headers)
    assert again.json() == first.json()
    assert (await dataset.client.get(f"{dataset.url}/edits")).json()["total"] == 2


@pytest.mark.parametrize("cursor", ["!", "W10", "WyJhIl0", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTld", "Wy0xXQ"])
async def test_a_cursor_that_was_never_given_is_refused(dataset: Dataset, cursor: str) -> None:
    response = await dataset.client.get(f"{dataset.url}/edits", params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_params")


async def test_the_original_is_sent_as_it_is(dataset: Dataset) -> None:
    image = await dataset.image("rocket.jpg")
    response = await dataset.client.get(f"http://studio{image['file']}")
    assert response.content == (SHIPPED / "rocket.jpg").read_bytes()
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["content-disposition"].startswith("inline")
    part = await dataset.client.get(f"http://studio{image['file']}", headers={"range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_an_original_is_not_read_through_a_link_that_took_its_place(
    dataset: Dataset, tmp_path: Path
) -> None:
    image = await dataset.image("rocket.jpg")
    (tmp_path / "secret").write_bytes(CANARY)
    (dataset.folder / "rocket.jpg").unlink()
    (dataset.folder / "rocket.jpg").symlink_to(tmp_path / "secret")
    for url in (image["file"], image["thumbnail"]):
        response = await dataset.client.get(f"http://studio{url}")
        assert response.status_code == 422
        assert CANARY not in response.content


async def test_what_browsers_cannot_show_is_for_saving(dataset: Dataset, tmp_path: Path) -> None:
    from PIL import Image

    with Image.open(SHIPPED / "rocket.jpg") as picture:
        picture.save(tmp_path / "rocket.tiff")
    await dataset.upload(("rocket2.tiff", (tmp_path / "rocket.tiff").read_bytes()))
    image = await dataset.image("rocket2.tiff")
    response = await dataset.client.get(f"http://studio{image['file']}")
    assert response.headers["content-type"] == "image/tiff"
    assert response.headers["content-disposition"].startswith("attachment")


async def test_a_thumbnail_can_be_kept_for_ever(dataset: Dataset) -> None:
    image = await dataset.image("chelsea.png")
    response = await dataset.client.get(f"http://studio{image['thumbnail']}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
    headers = {"if-none-match": response.headers["etag"]}
    same = await dataset.client.get(f"http://studio{image['thumbnail']}", headers=headers)
    assert same.status_code == 304
    for size in (128, 512):
        small = await dataset.client.get(f"/thumbnails/{image['sha256']}/{size}.webp")
        assert small.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["0" * 64 + "/256.webp", "nonsense/256.webp", "SHA/256.png", "SHA/257.webp", "SHA/256", "SHA/0256.webp"],
)
async def test_only_thumbnails_of_known_images_are_made(dataset: Dataset, path: str) -> None:
    sha256 = (await dataset.image("chelsea.png"))["sha256"]
    response = await dataset.client.get(f"/thumbnails/{path.replace('SHA', sha256)}")
    assert response.status_code == 404


async def test_a_thumbnail_of_a_file_that_has_changed_is_not_made(dataset: Dataset) -> None:
    image = await dataset.image("chelsea.png")
    (dataset.folder / "chelsea.png").write_bytes((SHIPPED / "coffee.png").read_bytes())
    response = await dataset.client.get(f"http://studio{image['thumbnail']}")
    assert response.status_code == 422, response.text


async def test_a_deleted_image_lies_in_the_trash(dataset: Dataset, studio: Studio) -> None:
    image = await dataset.image("chelsea.png")
    url = f"{dataset.url}/images/{image['id']}"
    assert (await dataset.client.delete(url)).status_code == 204
    assert (await dataset.client.get(url)).status_code == 404
    assert (await dataset.client.get(f"http://studio{image['file']}")).status_code == 404
    assert (await dataset.list())["total"] == 3
    assert [each.name for each in studio.trash.list()] == ["chelsea.png"]


async def test_an_image_of_another_dataset_is_not_found(dataset: Dataset) -> None:
    other = (await dataset.client.post("/datasets", json={"name": "Dogs"})).json()["id"]
    image = await dataset.image("chelsea.png")
    for path in ("", "/file", "/scores", "/captions/tags"):
        response = await dataset.client.get(f"/datasets/{other}/images/{image['id']}{path}")
        assert response.status_code == 404
