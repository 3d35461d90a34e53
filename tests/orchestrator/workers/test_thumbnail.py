"""Thumbnails are small, upright, in sRGB, without metadata, and written whole or not at all."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from contract.errors import (
    DiskFull,
    FileUnreadable,
    FileUnwritable,
    ImageInvalid,
    ImageTooLarge,
    PathOutsideRoots,
)
from contract.rules.paths import to_wire
from orchestrator.workers.pool import WorkerPool
from orchestrator.workers.tasks import (
    THUMBNAIL,
    ThumbnailArguments,
    ThumbnailResult,
    ThumbnailSize,
)
from orchestrator.workers.thumbnail import make
from tests.builders.pictures import BROKEN, ZOO, Broken, Picture, photo, write
from tests.orchestrator.workers.bombs import with_scans
from tests.orchestrator.workers.odd_worker import COMMAND, DEED, Deed

# pytest puts its own filters in front of the one that workers set.
pytestmark = [pytest.mark.filterwarnings("ignore:::PIL"), pytest.mark.usefixtures("in_process")]

#: What a form of picture may differ by from the photograph itself, as root mean square of 255 levels: the
#: thumbnail is lossy, and so are most forms. A wrong turn, or colours upside down, make 50 and more.
CLOSE = 14
#: Forms that hold the colours of the photograph only roughly, or another picture.
_ROUGH = ("one_bit", "palette.png", "hides", "half_transparent", "line_", "dot", "horse", "logo")


def arguments(path: Path, folder: Path, size: ThumbnailSize = 256, **others: Any) -> ThumbnailArguments:
    """To make a thumbnail of `path` somewhere below `folder`."""
    return ThumbnailArguments(
        path=to_wire(str(path)),
        root=str(path.parent),
        target=str(folder / "thumbnails" / "ab" / "t.webp"),
        size=size,
        **others,
    )


def made(
    path: Path, folder: Path, size: ThumbnailSize = 256, **others: Any
) -> tuple[ThumbnailResult, Image.Image]:
    asked = arguments(path, folder, size, **others)
    result = make(asked)
    target = Path(asked.target)
    assert os.listdir(target.parent) == [target.name]
    assert target.stat().st_size == result.bytes
    with Image.open(target) as image:
        assert image.format == "WEBP"
        assert image.size == (result.width, result.height)
        assert not {"exif", "icc_profile", "xmp"} & image.info.keys()
        image.load()
        return result, image


def name_of_photo(picture: Picture) -> str:
    """The photograph that a picture of the zoo was made of; each has tags of its own."""
    sources = {"grey.png": "camera"} | {each.name: Path(each.name).stem for each in ZOO[:6]}
    return next(sources[each.name] for each in ZOO if each.tags == picture.tags and each.name in sources)


def distance(one: Image.Image, other: Image.Image) -> float:
    difference = ImageChops.difference(one.convert("RGB"), other.convert("RGB").resize(one.size))
    return float(np.sqrt(np.mean(np.square(ImageStat.Stat(difference).rms))))


@pytest.mark.parametrize("picture", ZOO, ids=lambda picture: picture.name)
def test_a_thumbnail_shows_what_every_form_of_picture_shows(
    picture: Picture, zoo: Path, tmp_path: Path
) -> None:
    result, image = made(zoo / picture.name, tmp_path)
    scale = min(1, 256 / max(picture.size))
    assert (result.width, result.height) == tuple(max(1, round(side * scale)) for side in picture.size)
    if not any(part in picture.name for part in _ROUGH):
        assert distance(image, photo(name_of_photo(picture))) < CLOSE


@pytest.mark.parametrize("name", ["china.jpg", "exif_6.jpg", "line_1x5000.png", "dot.png"])
@pytest.mark.parametrize("size", [128, 256, 512])
def test_the_longest_side_is_as_long_as_was_asked_for(
    size: ThumbnailSize, name: str, zoo: Path, tmp_path: Path
) -> None:
    width, height = next(picture.size for picture in ZOO if picture.name == name)
    result, _ = made(zoo / name, tmp_path, size)
    scale = min(1, size / max(width, height))
    assert (result.width, result.height) == (max(1, round(width * scale)), max(1, round(height * scale)))


@pytest.mark.parametrize(
    "picture", [picture for picture in ZOO if "_hides_" in picture.name], ids=lambda picture: picture.name
)
def test_what_is_transparent_stays_so(picture: Picture, zoo: Path, tmp_path: Path) -> None:
    _, image = made(zoo / picture.name, tmp_path)
    alpha = image.getchannel("A")
    assert alpha.getpixel((60, 60)) == 0
    assert alpha.getpixel((3, 3)) == 255


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_picture_is_refused_with_an_error_that_names_it(broken: Broken, tmp_path: Path) -> None:
    (path,) = write(tmp_path, [broken])
    with pytest.raises(broken.error) as caught:
        make(arguments(path, tmp_path))
    assert type(caught.value) is broken.error
    assert caught.value.where == str(path)
    assert broken.name in caught.value.message
    assert not (tmp_path / "thumbnails").exists()


def red_for_green() -> bytes:
    """sRGB's profile, its red and its green in each other's place."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = content.index(b"rXYZ"), content.index(b"gXYZ")
    content[red : red + 4], content[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(content)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_applied(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40), (250, 10, 10)).convert(mode).save(path, icc_profile=red_for_green())
    _, image = made(path, tmp_path)
    red, green, _ = image.convert("RGB").getpixel((20, 20))  # type: ignore[misc]
    assert green > 200 > 80 > red


@pytest.mark.parametrize(
    "profile", [b"no profile", bytes(200), red_for_green()], ids=["text", "zeros", "RGB"]
)
def test_a_profile_that_does_not_fit_is_left_alone(profile: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photo("camera").convert("L").save(path, icc_profile=profile)
    _, image = made(path, tmp_path)
    assert distance(image, photo("camera")) < CLOSE


def test_metadata_stays_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    photo("coffee").save(path, exif=exif, icc_profile=red_for_green(), comment=b"where I live")
    made(path, tmp_path)
    assert b"where I live" not in (tmp_path / "thumbnails" / "ab" / "t.webp").read_bytes()


def test_the_content_must_be_what_was_expected(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made(path, tmp_path, sha256=digest)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(FileUnreadable, match="changed"):
        make(arguments(path, tmp_path, sha256=digest))


def test_what_the_limits_forbid_is_not_decoded(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    with pytest.raises(ImageTooLarge):
        make(arguments(path, tmp_path, max_pixels=1000))
    with pytest.raises(PathOutsideRoots):
        make(
            ThumbnailArguments(
                path=str(path), root=str(tmp_path / "x"), target=str(tmp_path / "t.webp"), size=128
            )
        )


def test_a_jpeg_of_many_scans_is_refused_and_one_of_a_few_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_scans(80_000))
    with pytest.raises(ImageInvalid, match="scans"):
        make(arguments(path, tmp_path))
    path.write_bytes(with_scans(20))
    made(path, tmp_path)


def test_a_jpeg_is_decoded_at_a_fraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    photo("china").resize((4000, 3000)).save(path)
    sizes = []

    def displayable(image: Image.Image) -> Image.Image:
        image.load()
        sizes.append(image.size)
        return image

    monkeypatch.setattr("orchestrator.workers.thumbnail.displayable", displayable)
    made(path, tmp_path, 256)
    assert sizes == [(1000, 750)]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of files")
@pytest.mark.anyio
async def test_a_full_disk_is_a_full_disk_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    asked = arguments(path, tmp_path)
    async with WorkerPool(1, command=COMMAND) as pool:
        await pool.run(DEED, Deed(name="limit files", argument=1000))
        with pytest.raises(DiskFull):
            await pool.run(THUMBNAIL, asked)
        assert list(Path(asked.target).parent.iterdir()) == []


def test_a_place_that_cannot_be_written_is_unwritable(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    (tmp_path / "thumbnails").touch()
    with pytest.raises(FileUnwritable):
        make(arguments(path, tmp_path))


def test_a_thumbnail_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    target = Path(arguments(path, tmp_path).target)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    (target.parent / "t.webp.part").write_bytes(b"left over")
    made(path, tmp_path)


def test_the_same_picture_always_makes_the_same_bytes(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ZOO[:1])
    target = Path(arguments(path, tmp_path).target)
    contents = set()
    for _ in range(2):
        made(path, tmp_path)
        contents.add(target.read_bytes())
    assert len(contents) == 1
