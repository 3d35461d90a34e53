"""Which way a picture is up is known without decoding it, wherever the file says so."""

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from contract.rules.buckets import Size
from trainer.data.picture import decode, look
from trainer.pictures.orientation import tells_late

_LYING = 6


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = _LYING
    return exif


def png(path: Path, **options: object) -> Path:
    Image.new("RGB", (30, 20), "teal").save(path, "PNG", **options)
    return path


def with_last_chunk(path: Path, kind: bytes, data: bytes) -> Path:
    """A chunk put in between the pixels and the end."""
    end = 12
    content = path.read_bytes()
    chunk = len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    path.write_bytes(content[:-end] + chunk + content[-end:])
    return path


def late_exif(path: Path) -> Path:
    return with_last_chunk(png(path), b"eXIf", turned().tobytes().removeprefix(b"Exif\0\0"))


def late_xmp(path: Path) -> Path:
    xmp = b'<x tiff:Orientation="6"/>'
    return with_last_chunk(png(path), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "avif", "tif"])
def test_a_turned_picture_is_looked_at_without_decoding_it(
    ending: str, tmp_path: Path, undecoded: None
) -> None:
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (30, 20), "teal").save(path, exif=turned(), tiffinfo={0x0112: _LYING})
    assert look(str(path)).size == Size(20, 30)


def test_an_upright_png_is_looked_at_without_decoding_it(tmp_path: Path, undecoded: None) -> None:
    assert look(str(png(tmp_path / "a.png"))).size == Size(30, 20)


@pytest.mark.parametrize("late", [late_exif, late_xmp])
def test_what_stands_behind_the_pixels_counts(late: Callable[[Path], Path], tmp_path: Path) -> None:
    path = late(tmp_path / "a.png")
    with path.open("rb") as file:
        assert tells_late(file)
    assert look(str(path)).size == Size(20, 30)
    assert decode(str(path)).size == (20, 30)


def test_a_png_that_ends_anywhere_ends_the_search(tmp_path: Path) -> None:
    path = late_exif(tmp_path / "a.png")
    content = path.read_bytes()
    known = content.index(b"eXIf") + len(b"eXIf")
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with path.open("rb") as file:
            assert tells_late(file) == (length >= known)
