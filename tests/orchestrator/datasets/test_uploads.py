"""Uploads: what comes is checked, named, put into the folder whole, and known; or refused by itself."""

import errno
import io
import os
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from contract.errors import BodyInvalid, BodyTooLarge, DiskFull, LorakeetError, MediaTypeWrong, NotFound
from orchestrator.datasets import spool
from orchestrator.datasets.uploads import Uploaded
from orchestrator.ids import new_id
from tests.orchestrator.datasets.shelf import SHIPPED, Shelf, open_shelf

pytestmark = pytest.mark.anyio

BOUNDARY = "a-boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
LIMIT = 64 * 1024 * 1024

File = tuple[str, bytes]


def photo(name: str) -> bytes:
    return (SHIPPED / name).read_bytes()


def body_of(files: Sequence[File], *, end: bool = True) -> bytes:
    """A multipart body as browsers write it."""
    body = io.BytesIO()
    for name, content in files:
        quoted = name.replace('"', "%22")
        body.write(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '.encode())
        body.write(f'filename="{quoted}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode())
        body.write(content + b"\r\n")
    if end:
        body.write(f"--{BOUNDARY}--\r\n".encode())
    return body.getvalue()


async def streamed(body: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def upload(shelf: Shelf, *files: File, limit: int = LIMIT) -> list[Uploaded]:
    """Send files; nothing may be left of them elsewhere."""
    uploads = shelf.studio.datasets.uploads
    results = await uploads.receive(shelf.dataset, TYPE, streamed(body_of(files)), limit, new_id)
    assert spooled(shelf) == []
    return results


def spooled(shelf: Shelf) -> list[str]:
    folder = shelf.studio.home / "uploads"
    return os.listdir(folder) if folder.exists() else []


def briefly(results: list[Uploaded]) -> list[tuple[str, str, str | None]]:
    """Name, status, and the path or the kind of the error."""
    return [
        (each.name, each.status, each.error.kind if each.error else each.image.path if each.image else None)
        for each in results
    ]


async def test_a_photograph_is_in_the_folder_and_known(empty: Shelf) -> None:
    (result,) = await upload(empty, ("chelsea.png", photo("chelsea.png")))
    assert (empty.folder / "chelsea.png").read_bytes() == photo("chelsea.png")
    image = (await empty.images())["chelsea.png"]
    assert result.image == image
    assert (image.width, image.height, image.format) == (451, 300, "png")
    found = await empty.look()
    assert (found.added, found.changed, found.removed) == (0, 0, 0)


async def test_captions_come_with_their_images(empty: Shelf) -> None:
    results = await upload(
        empty,
        ("chelsea.txt", b"cat, fur"),
        ("chelsea.caption", b"A cat."),
        ("chelsea.png", photo("chelsea.png")),
        ("nobody.txt", b"of no image"),
        ("coffee.txt", b"\xff\xfe"),
        ("coffee.png", photo("coffee.png")),
    )
    assert briefly(results) == [
        ("chelsea.txt", "created", "chelsea.png"),
        ("chelsea.caption", "created", "chelsea.png"),
        ("chelsea.png", "created", "chelsea.png"),
        ("nobody.txt", "refused", "file_missing"),
        ("coffee.txt", "refused", "caption_unreadable"),
        ("coffee.png", "created", "coffee.png"),
    ]
    assert empty.files() == {"chelsea.txt": b"cat, fur", "chelsea.caption": b"A cat."}
    (edit,) = await empty.edits()
    assert (edit.action, edit.author, edit.changes) == ("upload", "user", 2)


async def test_a_caption_may_come_later_and_can_be_undone(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    assert briefly(await upload(shelf, ("chelsea.txt", b"another cat"))) == [
        ("chelsea.txt", "created", "chelsea.png")
    ]
    assert briefly(await upload(shelf, ("chelsea.txt", b"another cat"))) == [
        ("chelsea.txt", "already_there", "chelsea.png")
    ]
    await shelf.revert((await shelf.edits())[0])
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_a_name_that_is_taken_gets_a_number_unless_it_is_the_same_picture(empty: Shelf) -> None:
    cat, cup = photo("chelsea.png"), photo("coffee.png")
    assert briefly(await upload(empty, ("a.png", cat))) == [("a.png", "created", "a.png")]
    assert briefly(await upload(empty, ("a.png", cat))) == [("a.png", "already_there", "a.png")]
    assert briefly(await upload(empty, ("a.png", cup))) == [("a.png", "created", "a-2.png")]
    assert briefly(await upload(empty, ("a.png", cup))) == [("a.png", "already_there", "a-2.png")]
    assert sorted(await empty.images()) == ["a-2.png", "a.png"]
    assert (empty.folder / "a.png").read_bytes() == cat


async def test_no_upload_makes_two_images_share_a_caption_file(empty: Shelf) -> None:
    results = await upload(
        empty,
        ("a.png", photo("chelsea.png")),
        ("a.jpg", photo("rocket.jpg")),
        ("a.txt", b"of the first"),
    )
    assert [each.image.path for each in results if each.image] == ["a.png", "a-2.jpg", "a.png"]
    assert empty.files() == {"a.txt": b"of the first"}


async def test_a_file_that_is_there_and_not_known_is_compared_too(empty: Shelf) -> None:
    """As after a studio that died between putting it there and knowing it."""
    empty.folder.joinpath("a.png").write_bytes(photo("chelsea.png"))
    assert briefly(await upload(empty, ("a.png", photo("chelsea.png")))) == [
        ("a.png", "already_there", "a.png")
    ]
    assert list(await empty.images()) == ["a.png"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("picture.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_invalid"),
        ("picture.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_invalid"),
        ("page.html", b"<script>alert(1)</script>", "image_invalid"),
        ("page.png", b"<!DOCTYPE html><script>alert(1)</script>", "image_invalid"),
        ("run.exe", b"MZ", "image_invalid"),
        ("archive.zip", b"PK\x03\x04", "image_invalid"),
        ("picture.eps", b"%!PS-Adobe-3.0 EPSF-3.0", "image_invalid"),
        ("empty.png", b"", "image_empty"),
        ("half.png", (SHIPPED / "chelsea.png").read_bytes()[:30], "image_truncated"),
        ("weights.safetensors", b"\x00" * 100, "image_invalid"),
        ("", b"x", "image_invalid"),
    ],
)
async def test_what_is_no_picture_is_refused_by_itself(
    empty: Shelf, name: str, content: bytes, kind: str
) -> None:
    results = await upload(empty, (name, content), ("chelsea.png", photo("chelsea.png")))
    assert results[0].status == "refused"
    assert results[0].error is not None
    assert results[0].error.kind == kind
    assert "00000" not in results[0].error.message
    assert results[1].status == "created"
    assert os.listdir(empty.folder) == ["chelsea.png"]


async def test_a_picture_with_too_many_pixels_is_refused(empty: Shelf) -> None:
    results = await upload(empty, ("bomb.png", bomb(100_000, 100_000)))
    assert briefly(results) == [("bomb.png", "refused", "image_too_large")]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../../../evil.png", "evil.png"),
        ("/etc/evil.png", "evil.png"),
        ("C:\\Users\\evil.png", "evil.png"),
        (".hidden.png", "hidden.png"),
        ("nul.png", "_nul.png"),
        ('quo"te.png', "quo_te.png"),
        ("日本語 🐈.png", "日本語 🐈.png"),
        ("é" * 300 + ".png", "é" * 98 + ".png"),
    ],
)
async def test_a_name_cannot_leave_the_folder(empty: Shelf, name: str, path: str) -> None:
    (result,) = await upload(empty, (name, photo("chelsea.png")))
    assert result.image is not None
    assert result.image.path == path
    assert os.listdir(empty.folder) == [path]


async def test_originals_are_never_modified(empty: Shelf) -> None:
    """Not even their metadata is stripped."""
    content = photo("rocket.jpg") + b"appended by a camera"
    await upload(empty, ("rocket.jpg", content))
    assert (empty.folder / "rocket.jpg").read_bytes() == content


async def test_many_files_come_at_once(empty: Shelf) -> None:
    """More than a worker looks at in one task."""
    content = photo("rocket.jpg")
    files = [(f"{number:03}.jpg", content + str(number).encode()) for number in range(70)]
    results = await upload(empty, *files)
    assert {each.status for each in results} == {"created"}
    assert len(await empty.images()) == 70


async def test_a_body_that_breaks_off_leaves_nothing(empty: Shelf) -> None:
    body = body_of([("chelsea.png", photo("chelsea.png"))], end=False)
    await refused(empty, BodyInvalid, body[: len(body) // 2])
    await refused(empty, BodyInvalid, body)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/mixed; boundary=a", "multipart/form-data;boundary"],
)
async def test_a_body_of_another_type_is_refused(empty: Shelf, content_type: str) -> None:
    with pytest.raises((MediaTypeWrong, BodyInvalid)):
        await empty.studio.datasets.uploads.receive(empty.dataset, content_type, streamed(b""), LIMIT, new_id)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"--other\r\n", b"--a-boundary\r\nno header\r\n\r\n"])
async def test_a_body_that_is_no_multipart_is_refused(empty: Shelf, body: bytes) -> None:
    await refused(empty, BodyInvalid, body)


async def test_too_many_bytes_are_refused_as_they_come(empty: Shelf) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield body_of([("a.png", b"")], end=False)[:-2]
        while True:
            taken += 1
            yield b"x" * 100_000

    with pytest.raises(BodyTooLarge):
        await empty.studio.datasets.uploads.receive(empty.dataset, TYPE, endless(), 5_000_000, new_id)
    assert taken < 100
    assert spooled(empty) == []


async def test_too_many_parts_are_refused(empty: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_PARTS", 5)
    await refused(empty, BodyTooLarge, body_of([("a.txt", b"")] * 6))


@pytest.mark.parametrize("count", [2, 9])
async def test_long_headers_are_refused(empty: Shelf, count: int) -> None:
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 4_000) for number in range(count))
    more = b"X-Long: " + b"a" * 100_000 + b"\r\n"
    body = b"--a-boundary\r\n" + headers + more + b"\r\nx\r\n--a-boundary--\r\n"
    await refused(empty, BodyInvalid, body)


async def test_a_full_disk_is_said_and_leaves_nothing(empty: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    body = body_of([("chelsea.png", photo("chelsea.png"))])
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fsync)
        await refused(empty, DiskFull, body)
    assert os.listdir(empty.folder) == []
    assert briefly(await upload(empty, ("chelsea.png", photo("chelsea.png"))))[0][1] == "created"


async def test_another_disk_is_copied_to(empty: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: object, source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr("orchestrator.files.beneath.Folder.take", take)
    await upload(empty, ("chelsea.png", photo("chelsea.png")), ("chelsea.png", photo("coffee.png")))
    assert sorted(os.listdir(empty.folder)) == ["chelsea-2.png", "chelsea.png"]
    assert (empty.folder / "chelsea-2.png").read_bytes() == photo("coffee.png")


async def test_a_full_disk_while_copying_is_said(empty: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: object, source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "another disk")

    def copy(old: object, new: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("orchestrator.files.beneath.Folder.take", take)
    monkeypatch.setattr("shutil.copyfileobj", copy)
    await refused(empty, DiskFull, body_of([("chelsea.png", photo("chelsea.png"))]))
    assert os.listdir(empty.folder) == []


async def test_uploads_of_an_older_boot_are_cleared(tmp_path: Path) -> None:
    left = tmp_path / "home" / "uploads" / "upload_x"
    left.mkdir(parents=True)
    (left / "00000").write_bytes(b"half")
    async with open_shelf(tmp_path / "home") as shelf:
        assert spooled(shelf) == []


async def refused(shelf: Shelf, kind: type[LorakeetError], body: bytes) -> None:
    """The body is refused whole, and nothing is left of it."""
    with pytest.raises(kind):
        await shelf.studio.datasets.uploads.receive(shelf.dataset, TYPE, streamed(body), LIMIT, new_id)
    assert spooled(shelf) == []
    assert await shelf.images() == {}


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


async def test_an_image_that_comes_back_is_the_same_one(shelf: Shelf) -> None:
    await shelf.put("chelsea.png", "a cat")
    image = (await shelf.images())["chelsea.png"]
    await shelf.studio.datasets.lifecycle.delete_image(shelf.dataset, image)
    (result,) = await upload(shelf, ("chelsea.png", photo("chelsea.png")))
    assert result.image is not None
    assert result.image.id == image.id
    assert (await shelf.images())["chelsea.png"].id == image.id
    await shelf.look()
    assert shelf.files() == {"chelsea.txt": b"a cat\n"}


async def test_an_upload_into_a_dataset_that_is_deleted_meanwhile_is_refused(shelf: Shelf) -> None:
    body = body_of([("new.png", photo("coffee.png"))])

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:1_000]
        await shelf.studio.datasets.lifecycle.delete(shelf.dataset)
        yield body[1_000:]

    with pytest.raises(NotFound):
        await shelf.studio.datasets.uploads.receive(shelf.dataset, TYPE, slowly(), LIMIT, new_id)
    assert spooled(shelf) == []
