"""What a scan says of every form of picture, and of what is none."""

import errno
import hashlib
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from contract.errors import FileMissing, ImageTooLarge, PathOutsideRoots
from contract.rules.paths import to_wire
from orchestrator.workers.pool import WorkerPool
from orchestrator.workers.scan import scan
from orchestrator.workers.tasks import SCAN, ScanArguments, ScannedFile
from tests.builders.pictures import BROKEN, NASTY, ZOO, Broken, Picture, photo, write

# pytest puts its own filters in front of the one that workers set.
pytestmark = [pytest.mark.filterwarnings("ignore:::PIL"), pytest.mark.usefixtures("in_process")]

FORMATS = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".gif": "gif",
    ".avif": "avif",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".jp2": "jpeg2000",
    ".ppm": "ppm",
}


def scanned(path: Path, max_pixels: int = 64_000_000) -> ScannedFile:
    wire = to_wire(str(path))
    arguments = ScanArguments(root=str(path.parent), paths=[wire], max_pixels=max_pixels)
    (found,) = scan(arguments).files
    assert found.path == wire
    assert (found.picture is None) != (found.error is None)
    return found


def kind(path: Path, max_pixels: int = 64_000_000) -> str:
    error = scanned(path, max_pixels).error
    assert error is not None
    assert error.data.where == to_wire(str(path))
    return error.data.kind


@pytest.mark.parametrize("picture", ZOO + NASTY, ids=lambda picture: ascii(picture.name))
def test_every_form_of_picture_is_known_by_its_header_and_its_content(picture: Picture, zoo: Path) -> None:
    path = zoo / picture.name
    found = scanned(path)
    assert found.picture is not None
    assert (found.picture.width, found.picture.height) == picture.size
    is_disguised = picture.name == "png_in_disguise.jpg"
    assert found.picture.format == ("png" if is_disguised else FORMATS[path.suffix])
    sees_through = ("_hides_", "half_transparent", "logo.png", "horse.png")
    assert found.picture.has_alpha == any(part in picture.name for part in sees_through)
    assert found.picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.size_bytes, found.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_picture_has_its_error_or_a_header_that_is_whole(broken: Broken, tmp_path: Path) -> None:
    (path,) = write(tmp_path, [broken])
    found = scanned(path)
    if found.error is not None:
        assert found.error.data.kind == broken.error.kind
        assert broken.name in found.error.message


def test_nothing_is_decoded(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def load(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for picture in ZOO:
        assert scanned(zoo / picture.name).error is None


def late_exif(path: Path, *, is_whole: bool = True, garbage: bytes = b"") -> None:
    """A PNG of 3 x 2 pixels that is to be turned; the EXIF stands behind the pixels."""
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    body = garbage or exif.tobytes().removeprefix(b"Exif\0\0")
    checksum = zlib.crc32(b"eXIf" + body) ^ (not is_whole)
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", checksum)
    content = file.getvalue()
    path.write_bytes(content[:-12] + chunk + content[-12:])


def test_a_png_may_say_behind_its_pixels_how_it_is_turned(tmp_path: Path) -> None:
    late_exif(tmp_path / "a.png")
    late_exif(tmp_path / "b.png", is_whole=False)
    late_exif(tmp_path / "c.png", garbage=b"neither II nor MM")
    for name, size in (("a.png", (2, 3)), ("b.png", (3, 2)), ("c.png", (3, 2))):
        picture = scanned(tmp_path / name).picture
        assert picture is not None
        assert (picture.width, picture.height) == size


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"8BPS\0\1" + bytes(40),
        b"\0\0\1\0\1\0" + bytes(40),
        b"qoif" + bytes(40),
        b"MZ" + bytes(80),
        b"\x89PN",
        b"\0",
    ],
    ids=["eps", "svg", "psd", "ico", "qoi", "exe", "png's first three bytes", "nul"],
)
def test_only_known_formats_reach_a_decoder(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("opened"))
    assert kind(path) == "image_invalid"


def test_a_picture_over_the_limit_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo("coffee").save(path)
    width, height = photo("coffee").size
    found = scanned(path, width * height - 1)
    assert found.error is not None
    assert found.error.data.kind == ImageTooLarge.kind
    assert found.error.data.details == {"width": width, "height": height, "max_pixels": width * height - 1}
    # As far beyond the limit as Pillow refuses by itself.
    assert kind(path, 100) == "image_too_large"
    assert scanned(path, width * height).error is None


def test_a_file_longer_than_any_picture_within_the_limit_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    photo("coffee").save(path)
    with path.open("r+b") as file:
        file.truncate(80 << 20)
    assert kind(path, 1_000_000) == "image_too_large"


def test_a_header_that_wants_more_memory_than_there_is_spoils_only_its_own_entry(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.Image.open", fail)
    assert kind(zoo / "china.jpg") == "out_of_memory"


def test_a_decoder_that_is_sent_where_no_file_goes_on_does_not_blame_the_disk(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("PIL.Image.open", fail)
    assert kind(zoo / "china.jpg") == "image_invalid"


@pytest.mark.anyio
async def test_a_batch_answers_for_every_path_in_their_order(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    good, empty, nasty = write(inside, [ZOO[0], BROKEN[0], NASTY[-1]])
    (outside,) = write(tmp_path / "outside", [ZOO[0]])
    paths = [good, inside / "none.png", empty, outside, nasty, good]
    arguments = ScanArguments(root=str(inside), paths=[*(to_wire(str(path)) for path in paths), "a.png"])
    async with WorkerPool() as pool:
        files = (await pool.run(SCAN, arguments)).files
    kinds = [file.error.data.kind if file.error else None for file in files]
    assert kinds == [
        None,
        FileMissing.kind,
        "image_empty",
        PathOutsideRoots.kind,
        None,
        None,
        "path_not_absolute",
    ]
    assert [file.path for file in files] == arguments.paths
    assert files[0] == files[5]
    assert files[2].size_bytes is None
