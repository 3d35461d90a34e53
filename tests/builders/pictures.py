"""The zoo: real picture files in every form that people's folders hold, with what is true of each.

Photographs come from the wheels of scikit-image and scikit-learn; nothing is downloaded. Every entry says
which tags of the demo tagger fire at the default thresholds, exactly those, and how large people see it.
"""

import importlib.util
import io
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from contract.errors import ImageEmpty, ImageError, ImageInvalid, ImageTooLarge, ImageTruncated

__all__ = ["BROKEN", "NASTY", "ZOO", "Broken", "Picture", "photo", "write"]

Writer = Callable[[Path], None]
_SOURCES = {"china": "sklearn", "flower": "sklearn"}
_FOLDERS = {"sklearn": "datasets/images", "skimage": "data"}


class Picture(NamedTuple):
    """A file that a tagger can use."""

    name: str
    write: Writer
    size: tuple[int, int]  # as people see it
    tags: frozenset[str]  # of general and character tags, those that fire


class Broken(NamedTuple):
    """A file that is refused."""

    name: str
    write: Writer
    error: type[ImageError]


@cache
def _file(name: str) -> Path:
    """The file of a photograph, found without importing the package: scikit-learn takes a second."""
    package = _SOURCES.get(name, "skimage")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    folder = Path(spec.submodule_search_locations[0]) / _FOLDERS[package]
    return next(path for path in folder.iterdir() if path.stem == name)


@cache
def _size(name: str) -> tuple[int, int]:
    with Image.open(_file(name)) as image:
        return image.size


@cache
def photo(name: str) -> Image.Image:
    """A photograph by the name of its file, in RGB: china, flower; astronaut, camera, coffee, page, …"""
    with Image.open(_file(name)) as image:
        return image.convert("RGB")


def write(folder: Path, entries: Iterable[Picture | Broken]) -> list[Path]:
    """Write the files of `entries` into `folder`; their paths, in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for entry in entries:
        path = folder / entry.name
        entry.write(path)
        paths.append(path)
    return paths


# What fires for each photograph.
_TAGS = {
    "china": ("wide_image", "bright_above", "bright_right", "high_contrast"),
    "coffee": ("wide_image", "bright_above", "red", "crimson_knight_(palette)"),
    "flower": ("wide_image", "green", "dark"),
    "rocket": ("wide_image", "blue", "dark"),
    "camera": ("square_image", "greyscale", "bright_above", "bright_right", "high_contrast"),
    "astronaut": ("square_image", "red", "bright_above", "high_contrast"),
    "phantom": ("square_image", "greyscale", "dark", "grey_ghost"),
    "logo": ("square_image", "yellow", "bright", "^_^"),
    "horse": ("wide_image", "greyscale", "white_background", "bright", "bright_below", "high_contrast"),
}


def _of(name: str, file: str, writer: Callable[[Image.Image, Path], None]) -> Picture:
    """The photograph `name`, written by `writer` as `file`."""
    return Picture(file, lambda path: writer(photo(name), path), _size(name), frozenset(_TAGS[name]))


def _save(mode: str = "RGB", **options: Any) -> Callable[[Image.Image, Path], None]:
    def save(image: Image.Image, path: Path) -> None:
        image.convert(mode).save(path, **options)

    return save


def _copy(name: str) -> Picture:
    source = _file(name)
    return Picture(
        source.name, lambda path: _put(path, source.read_bytes()), _size(name), frozenset(_TAGS[name])
    )


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, "JPEG", **options)
    return target.getvalue()


# CMYK ------------------------------------------------------------------------------------------------------


def _cmyk_plain(image: Image.Image, path: Path) -> None:
    """CMYK as the standard has it: no Adobe marker, 255 is full ink. Pillow writes only Adobe's way."""
    content = _jpeg(ImageChops.invert(image.convert("CMYK")))
    start = content.index(b"\xff\xee")
    length = int.from_bytes(content[start + 2 : start + 4], "big")
    path.write_bytes(content[:start] + content[start + 2 + length :])


# Bit depths ------------------------------------------------------------------------------------------------


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    return np.asarray(image.convert("L")).astype(np.uint16) * 257


def _png(path: Path, pixels: NDArray[Any], colour: int, *chunks: tuple[bytes, bytes]) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write. `colour`: 0 grey, 2 RGB, 6 RGBA."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2").tobytes()
    stride = len(rows) // height
    raw = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(raw, 1)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff16(path: Path, pixels: NDArray[np.uint16]) -> None:
    """An uncompressed RGB TIFF of 16 bits a channel (TIFF 6.0, section 2)."""
    height, width, _ = pixels.shape
    body = pixels.astype("<u2").tobytes()
    long, short = 4, 3
    bits_at = 8 + len(body)
    tags = (
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, 3, bits_at),
        (259, short, 1, 1),
        (262, short, 1, 2),
        (273, long, 1, 8),
        (277, short, 1, 3),
        (278, long, 1, height),
        (279, long, 1, len(body)),
    )
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = struct.pack("<2sHI", b"II", 42, bits_at + 6)
    path.write_bytes(head + body + struct.pack("<HHH", 16, 16, 16) + directory + bytes(4))


def _float(image: Image.Image, path: Path, *, scale: float) -> None:
    """Grey levels of 0..255 as 32-bit floats, times `scale`."""
    Image.fromarray(np.asarray(image.convert("L"), np.float32) * np.float32(scale)).save(path)


def _int32(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L"), np.int32) * 257).save(path)


def _rgb16(image: Image.Image) -> NDArray[np.uint16]:
    return np.asarray(image).astype(np.uint16) * 257


# Transparency ----------------------------------------------------------------------------------------------
# A frame of dark grey keeps the box whole; inside of it most is transparent and hides pure red. On white:
# white_background, bright, greyscale. Whoever lets the red through sees `red` and the knight.

_FRAME, _SIDE = 8, 120
_HOLE_TAGS = frozenset(("square_image", "greyscale", "white_background", "bright", "high_contrast"))
_SECRET = (255, 0, 0)
_GREY = (50, 50, 50)


def _holed(colour: tuple[int, int, int] = _SECRET) -> tuple[Image.Image, Image.Image]:
    """The picture with the secret colour in its middle, and its alpha: 0 there, 255 on the frame."""
    image = Image.new("RGB", (_SIDE, _SIDE), _GREY)
    alpha = Image.new("L", image.size, 255)
    inside = (_FRAME, _FRAME, _SIDE - _FRAME, _SIDE - _FRAME)
    image.paste(colour, inside)
    alpha.paste(0, inside)
    return image, alpha


def _hole(name: str, writer: Writer) -> Picture:
    return Picture(name, writer, (_SIDE, _SIDE), _HOLE_TAGS)


def _rgba(path: Path, **options: Any) -> None:
    image, alpha = _holed()
    image.putalpha(alpha)
    image.save(path, **options)


def _la(path: Path) -> None:
    image, alpha = _holed((0, 0, 0))
    Image.merge("LA", (image.convert("L"), alpha)).save(path)


def _palette_alpha(path: Path) -> None:
    """Palette entry 0 is the frame, 1 the secret; the tRNS chunk is a byte for each."""
    _palette(_holed()[0]).save(path, transparency=bytes((255, 0)))


def _palette_key(path: Path) -> None:
    """One palette entry is transparent, as in every GIF."""
    _palette(_holed()[0]).save(path, transparency=1)


def _palette(image: Image.Image) -> Image.Image:
    flat = Image.fromarray(np.asarray(image)[..., 0] // 255)
    flat.putpalette((*_GREY, *_SECRET))
    return flat


def _rgb_key(path: Path) -> None:
    _holed()[0].save(path, transparency=_SECRET)


def _grey_key(path: Path) -> None:
    _holed((0, 0, 0))[0].convert("L").save(path, transparency=0)


def _grey16_key(path: Path) -> None:
    _png(path, _grey16(_holed((0, 0, 0))[0]), 0, (b"tRNS", struct.pack(">H", 0)))


def _rgb16_key(path: Path) -> None:
    _png(path, _rgb16(_holed()[0]), 2, (b"tRNS", struct.pack(">HHH", 65535, 0, 0)))


def _rgba16(path: Path) -> None:
    image, alpha = _holed()
    image.putalpha(alpha)
    _png(path, _rgb16(image), 6)


def _half_transparent(path: Path) -> None:
    """Black at an alpha of 30: light grey on white, black to whoever drops the alpha."""
    Image.new("RGBA", (_SIDE, _SIDE), (0, 0, 0, 30)).save(path)


# Orientation -----------------------------------------------------------------------------------------------

# What a camera does to a picture before it writes this orientation: the inverse of what a viewer does.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _turned(orientation: int, *, zoom: int = 1) -> Callable[[Image.Image, Path], None]:
    def save(image: Image.Image, path: Path) -> None:
        turn = _STORED[orientation]
        stored = image if turn is None else image.transpose(turn)
        stored = stored if zoom == 1 else stored.resize((stored.width * zoom, stored.height * zoom))
        stored.save(path, exif=_exif(orientation))

    return save


def _exif_garbage(image: Image.Image, path: Path) -> None:
    path.write_bytes(_jpeg(image, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\xff\xff" * 30))


def _exif_mistyped(image: Image.Image, path: Path) -> None:
    """A resolution that is an empty text, which Pillow stumbles over while it opens the file."""
    unit = struct.pack(">HHIHH", 0x0128, 3, 1, 2, 0)
    resolution = struct.pack(">HHII", 0x011A, 2, 1, 0)
    directory = struct.pack(">H", 2) + resolution + unit + bytes(4)
    path.write_bytes(_jpeg(image, exif=b"Exif\0\0MM\0*\0\0\0\x08" + directory))


# Frames ----------------------------------------------------------------------------------------------------


def _animated(**options: Any) -> Callable[[Image.Image, Path], None]:
    """The photograph first, then frames that look quite different."""

    def save(image: Image.Image, path: Path) -> None:
        others = [Image.new("RGB", image.size, colour) for colour in ("blue", "lime")]
        image.save(path, save_all=True, append_images=others, **options)

    return save


# Shapes ----------------------------------------------------------------------------------------------------

_LEAF = (0, 150, 0)
_LEAF_TAGS = ("green", "emerald_ranger_(palette)")


def _plain(name: str, size: tuple[int, int], *tags: str) -> Picture:
    def save(path: Path) -> None:
        Image.new("RGB", size, _LEAF).save(path)

    return Picture(name, save, size, frozenset(_LEAF_TAGS + tags))


ZOO: tuple[Picture, ...] = (
    _copy("china"),
    _copy("flower"),
    _copy("rocket"),
    _copy("coffee"),
    _copy("astronaut"),
    _copy("phantom"),
    _copy("logo"),
    _copy("horse"),
    _of("coffee", "progressive.jpg", _save(progressive=True)),
    _of("coffee", "444.jpeg", _save(subsampling=0)),
    _of("coffee", "coffee.webp", _save()),
    _of("coffee", "lossless.webp", _save(lossless=True)),
    _of("coffee", "coffee.avif", _save()),
    _of("coffee", "coffee.bmp", _save()),
    _of("coffee", "coffee.jp2", _save()),
    _of("coffee", "coffee.tif", _save(compression="tiff_lzw")),
    _of("coffee", "jpeg_inside.tif", _save(compression="jpeg")),
    _of("coffee", "coffee.ppm", _save()),
    _of("coffee", "png_in_disguise.jpg", _save(format="PNG")),
    _of("coffee", "cmyk_adobe.jpg", _save("CMYK")),
    _of("coffee", "cmyk_plain.jpg", _cmyk_plain),
    _of("coffee", "cmyk.tif", _save("CMYK")),
    _of("coffee", "ycbcr.tif", _save("YCbCr")),
    _of("coffee", "lab.tif", _save("LAB")),
    _of("camera", "grey.jpg", _save("L")),
    _of("camera", "grey.png", _save("L")),
    _of("camera", "grey16.png", lambda image, path: Image.fromarray(_grey16(image)).save(path)),
    _of("camera", "grey16.tif", lambda image, path: Image.fromarray(_grey16(image)).save(path)),
    _of("camera", "grey32.tif", _int32),
    _of("camera", "float_to_1.tif", partial(_float, scale=1 / 255)),
    _of("camera", "float_to_255.tif", partial(_float, scale=1)),
    _of("camera", "float_beyond.tif", partial(_float, scale=1e6)),
    _of("phantom", "one_bit.png", _save("1")),
    _of("coffee", "rgb16.png", lambda image, path: _png(path, _rgb16(image), 2)),
    _of("coffee", "rgb16.tif", lambda image, path: _tiff16(path, _rgb16(image))),
    _of("coffee", "palette.png", _save("P")),
    _hole("rgba_hides_red.png", _rgba),
    _hole("rgba_hides_red.webp", partial(_rgba, lossless=True, exact=True)),
    _hole("rgba_hides_red.tif", _rgba),
    _hole("rgba16_hides_red.png", _rgba16),
    _hole("la_hides_black.png", _la),
    _hole("palette_alpha_hides_red.png", _palette_alpha),
    _hole("palette_key_hides_red.gif", _palette_key),
    _hole("rgb_key_hides_red.png", _rgb_key),
    _hole("grey_key_hides_black.png", _grey_key),
    _hole("grey16_key_hides_black.png", _grey16_key),
    _hole("rgb16_key_hides_red.png", _rgb16_key),
    Picture(
        "half_transparent.png",
        _half_transparent,
        (_SIDE, _SIDE),
        frozenset(("square_image", "greyscale", "bright")),
    ),
    *(_of("china", f"exif_{orientation}.jpg", _turned(orientation)) for orientation in _STORED),
    _of("china", "exif_6.png", _turned(6)),
    _of("china", "exif_7.webp", _turned(7)),
    _of("china", "exif_8.tif", _turned(8)),
    _of("china", "exif_5.avif", _turned(5)),
    _of("china", "exif_garbage.jpg", _exif_garbage),
    _of("china", "exif_mistyped.jpg", _exif_mistyped),
    _of("coffee", "animated.gif", _animated(duration=100)),
    _of("coffee", "animated.webp", _animated(duration=100)),
    _of("coffee", "animated.png", _animated(duration=100)),
    _of("coffee", "animated.avif", _animated(duration=100)),
    _of("coffee", "two_pages.tif", _animated()),
    _of("coffee", "stereo.jpg", _animated(format="MPO")),
    _plain("line_1x5000.png", (1, 5000), "tall_image"),
    _plain("line_1x5000.jpg", (1, 5000), "tall_image"),
    _plain("line_5000x1.png", (5000, 1), "wide_image"),
    _plain("dot.png", (1, 1), "square_image"),
)

# Names that programs trip over. Only some file systems take them all.
_NASTY_NAMES = [
    "with space.png",
    "it's.png",
    "🦜 Kääpiö.png",
    "-rf.png",
    "a,b;c.png",
    "%s {0}.png",
    "x.tar.png",
]
if sys.platform != "win32":
    _NASTY_NAMES += ['say "hi".png', "two\nlines.png", "back\\slash.png", "star*?.png"]
if sys.platform == "linux":
    _NASTY_NAMES.append(os.fsdecode(b"not \xff\xfe utf-8.png"))

NASTY: tuple[Picture, ...] = tuple(_plain(name, (40, 20), "wide_image") for name in _NASTY_NAMES)


def _cut(file: str, share: float = 0.5) -> Writer:
    """The first part of a picture of the zoo."""

    def save(path: Path) -> None:
        picture = next(picture for picture in ZOO if picture.name == file)
        picture.write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return save


def _damaged(path: Path) -> None:
    """A PNG with its pixels overwritten in the middle, its end in place."""
    content = bytearray(_file("coffee").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    path.write_bytes(content)


BROKEN: tuple[Broken, ...] = (
    Broken("empty.jpg", lambda path: _put(path, b""), ImageEmpty),
    Broken("empty.png", lambda path: _put(path, b""), ImageEmpty),
    Broken("cut.jpg", _cut("china.jpg"), ImageTruncated),
    Broken("cut_progressive.jpg", _cut("progressive.jpg"), ImageTruncated),
    Broken("cut_in_its_header.jpg", _cut("china.jpg", 0.0005), ImageTruncated),
    Broken("cut.png", _cut("coffee.png"), ImageTruncated),
    Broken("cut.webp", _cut("coffee.webp"), ImageTruncated),
    Broken("cut.avif", _cut("coffee.avif"), ImageTruncated),
    Broken("cut.gif", _cut("animated.gif", 0.2), ImageTruncated),
    Broken("cut.bmp", _cut("coffee.bmp"), ImageTruncated),
    Broken("text.jpg", lambda path: _put(path, b"once upon a time\n" * 40), ImageInvalid),
    Broken("page.png", lambda path: _put(path, b"<!DOCTYPE html><title>404</title>"), ImageInvalid),
    Broken("zeros.webp", lambda path: _put(path, bytes(5000)), ImageInvalid),
    Broken("damaged.png", _damaged, ImageInvalid),
    # 81 megapixels in 10 kB.
    Broken("huge.png", lambda path: Image.new("1", (9000, 9000)).save(path), ImageTooLarge),
)
