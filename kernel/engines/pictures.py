"""Picture files as taggers want to see them: one square of 8-bit pixels, whatever the file holds.

This module owns decoding, orientation, colour modes, transparency, fitting, and the typed errors for files
that cannot be used. It knows no model: the caller says how large the square is. Every function is safe to
call from many threads at once; Pillow releases the GIL while it decodes and resizes.

The geometry is that of the demo of the WD taggers (SmilingWolf/wd-tagger on the hub: white paper, the
picture in the middle, bicubic), except that the picture is scaled before it is padded: the same pixels
for less work, and a picture of 1 x 5000 needs no square of 25 million.

ICC profiles are not applied: the models were trained without.
"""

import importlib
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from contract.errors import (
    FileMissing,
    FileUnreadable,
    ImageEmpty,
    ImageInvalid,
    ImageTooLarge,
    ImageTruncated,
    LorakeetError,
    OutOfMemory,
)
from contract.rules.endings import ends_early
from kernel.engines import avif
from kernel.engines.budget import Budget

__all__ = ["Prepared", "budget_for", "prepare"]

# Formats people keep pictures in. Pillow knows more; some of those run a program (EPS) or recognise
# themselves in almost any bytes (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "QOI")
_PLUGINS = ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Qoi", "Tiff", "WebP")

# Pillow would import its plugins in the middle of the first picture, in several threads at once.
for _plugin in _PLUGINS:
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")

# Pillow's own limit is process-wide, warns at one size and raises at another; `max_pixels` is the limit here.
Image.MAX_IMAGE_PIXELS = None

# What Pillow has to say about odd metadata is no news to anybody: a picture decodes or is refused. Filters
# are process-wide and `catch_warnings` is not safe in threads, so this is set once.
warnings.filterwarnings("ignore", module=r"PIL\.")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # EXIF 2.3, table 4
_CHUNK_BYTES = 1 << 20
_MAX_REPAIR_BYTES = 256 << 20  # such a file is held in memory twice
_WHITE = 255
# Pillow's plugins for WebP and AVIF, and some others, read the whole file to see its header. The most a
# picture of so many pixels may have: twice what 16 bits of four channels take, and room for its metadata.
_MAX_BYTES_PER_PIXEL = 8
_MAX_BYTES_BESIDES = 64 << 20
_LARGE_FILE = 32 << 20  # such files are read one after the other
# Peak memory of a pixel, decoder, copies and all, in bytes (Pillow 13.0, measured: light 1.0 to 4.4, others
# 4.5 to 19.3, most of all JPEG 2000). A progressive JPEG also has its coefficients, at any scale.
_LIGHT, _HEAVY, _COEFFICIENTS = 5, 20, 6
_LIGHT_FORMATS = ("JPEG", "MPO", "PNG", "BMP")
_STRIP_PIXELS = 1 << 20
_SLACK = 128  # encoders in hardware code whole blocks, the largest of AV1 have this side

Pixels = NDArray[np.uint8]


class Prepared(NamedTuple):
    """A picture ready for a tagger.

    `pixels`: uint8 [size, size, 3], BGR (what the WD models read; Pillow writes it as cheaply as RGB),
    centred on white. `width`, `height`: of the whole picture as people see it, in pixels, whatever was
    decoded of it.
    """

    pixels: Pixels
    width: int
    height: int


def budget_for(max_pixels: int) -> Budget:
    """Memory for two of the largest pictures at a time, or many small ones; for all threads of a job."""
    return Budget(2 * max_pixels * _HEAVY)


def prepare(path: str, size: int, *, fast: bool, max_pixels: int, budget: Budget | None = None) -> Prepared:
    """The picture at `path`, its longest side scaled to `size` pixels.

    `fast` decodes JPEGs at a fraction of their size, no smaller than twice `size`, and shrinks with a
    narrower filter; both stay within the difference between the filters in common use (see `_fit`).
    `max_pixels` is compared with the size in the header, before anything is decoded. `budget` is shared by
    the threads that prepare pictures: a large one waits until there is memory for it.

    Raises FileMissing, FileUnreadable, ImageEmpty, ImageTruncated, ImageInvalid, ImageTooLarge or
    OutOfMemory, each with `where=path`.
    """
    with _open_file(path) as file:
        try:
            budget = budget or budget_for(max_pixels)
            return _decode(file, path, size, fast=fast, max_pixels=max_pixels, budget=budget)
        except LorakeetError:
            raise
        except MemoryError as error:
            raise OutOfMemory(
                f"There was not enough memory to decode {_name(path)}.", where=path, hint="Make it smaller."
            ) from error
        # Decoders of a dozen formats raise whatever their parsing stumbles over: KeyError, AssertionError,
        # zlib.error, … Whatever it is, it means that this file is no picture.
        except Exception as error:
            raise _explained(error, file, path) from error


def _open_file(path: str) -> BinaryIO:
    """The file, open and known to be a regular one with bytes in it; opening a FIFO would wait for ever."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnreadable(f"{_name(path)} is not a file.", where=path)
        if status.st_size == 0:
            raise ImageEmpty(f"{_name(path)} is empty.", where=path, hint="Copy or download it again.")
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileMissing(f"{_name(path)} does not exist.", where=path) from error
    except OSError as error:
        raise FileUnreadable(f"{_name(path)} cannot be read.", where=path) from error


def _decode(file: BinaryIO, path: str, size: int, *, fast: bool, max_pixels: int, budget: Budget) -> Prepared:
    # A thread has one share at a time: here, or when the header has told how much it takes.
    is_large = _check_bytes(file, max_pixels, path) > _LARGE_FILE
    with budget.share(sys.maxsize if is_large else 0), _open_image(file) as image:
        width, height = image.size
        _check_pixels(width, height, max_pixels, path)
        coded = _check_frame(file, image, max_pixels, path)
        if fast:
            _draft(image, size)
        with budget.share(0 if is_large else _cost(image, width * height, coded)):
            image.load()
            # After the load: a PNG may carry its EXIF behind the pixels, and a TIFF has then turned itself.
            orientation = _orientation(image)
            pixels = _paper(_turned(_fit(_flat(image), size, fast=fast), orientation), size)
    return Prepared(pixels, height, width) if orientation >= 5 else Prepared(pixels, width, height)


def _check_bytes(file: BinaryIO, max_pixels: int, path: str) -> int:
    """The length of the file, unless it is longer than any picture within the limit."""
    length = os.fstat(file.fileno()).st_size
    limit = max_pixels * _MAX_BYTES_PER_PIXEL + _MAX_BYTES_BESIDES
    if length > limit:
        raise ImageTooLarge(
            f"{_name(path)} has {length} bytes; a picture of {max_pixels} pixels has at most {limit}.",
            where=path,
            hint="Save it anew, or raise the limit for decoding.",
            details={"bytes": length, "max_bytes": limit, "max_pixels": max_pixels},
        )
    return length


def _check_frame(file: BinaryIO, image: Image.Image, max_pixels: int, path: str) -> int | None:
    """Pixels that the decoder will meet, whatever the container says; None where nobody knows."""
    width, height = image.size
    if image.format != "AVIF":
        return width * height
    frame = avif.largest_frame(file)
    if frame is None:
        return None
    _check_pixels(*frame, max_pixels, path)
    if frame.width > width + _SLACK or frame.height > height + _SLACK:
        raise ImageInvalid(
            f"{_name(path)} says {width} x {height} pixels and has {frame.width} x {frame.height}.",
            where=path,
            hint="Save it anew.",
        )
    return max(width * height, frame.width * frame.height)


def _cost(image: Image.Image, pixels: int, coded: int | None) -> int:
    """Bytes that decoding takes at its peak; `pixels` are those of the picture, `coded` those to decode."""
    if coded is None:
        return sys.maxsize
    is_light = image.format in _LIGHT_FORMATS and image.mode in ("L", "RGB")
    each = _LIGHT if is_light and "transparency" not in image.info else _HEAVY
    if image.format not in ("JPEG", "MPO"):
        return coded * each
    width, height = image.size  # as drafted
    return width * height * each + pixels * (_COEFFICIENTS if "progressive" in image.info else 0)


def _open_image(file: BinaryIO) -> ImageFile.ImageFile:
    """The picture with its header read and nothing decoded.

    Pillow (13.0, `_read_dpi_from_exif`) does not recognise a JPEG whose EXIF has a resolution of a wrong
    type: that one is opened again without its EXIF.
    """
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        if length > _MAX_REPAIR_BYTES or file.read(2) != b"\xff\xd8":
            raise
        file.seek(0)
        content = file.read().replace(b"Exif\0\0", b"none\0\0", 1)
        return Image.open(io.BytesIO(content), formats=("JPEG",))


def _check_pixels(width: int, height: int, max_pixels: int, path: str) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{_name(path)} has {width} x {height} pixels, more than the limit of {max_pixels}.",
            where=path,
            hint="Make it smaller, or raise the limit for decoding.",
            details={"width": width, "height": height, "max_pixels": max_pixels},
        )


def _draft(image: ImageFile.ImageFile, size: int) -> None:
    """Let a JPEG decode at 1/2, 1/4 or 1/8 of its size, its longest side at least twice `size`.

    `draft` compares both sides with the wish and takes the smaller ratio: the wish has the picture's shape.
    """
    width, height = image.size
    scale = next((s for s in (8, 4, 2) if max(width, height) >= 2 * size * s), 1)
    if scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1 where there is none, or none that makes sense."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    # Metadata is written by every program there is; a picture never fails because of it.
    except Exception:  # noqa: BLE001
        return 1
    return value if value in _TURNS else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image) -> Image.Image:
    """The picture in mode RGB or L, transparency replaced by white, every bit depth brought to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image)
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode == "CMYK":
        return _cmyk_upright(image).convert("RGB")
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Composited on white, so that the hidden colour of transparent pixels never shows."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > _WHITE:
        # A colour key of 16 bits a channel, for pixels that Pillow has brought to 8.
        image.info["transparency"] = tuple(level >> 8 for level in key)
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    paper = Image.new("RGB", rgba.size, "white")
    paper.paste(rgba, mask=rgba)
    return paper


def _cmyk_upright(image: Image.Image) -> Image.Image:
    """Pillow turns every CMYK JPEG over, as Adobe's are stored; those without Adobe's mark are not."""
    if image.format == "JPEG" and "adobe" not in image.info:
        return ImageChops.invert(image)
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or float, as mode L.

    The scale is the smallest usual range that holds all the values: 0 to 65535 for 16-bit files; also 0 to
    255 for 32-bit ones; also 0 to 1 for floats. Values beyond all of these are stretched, lowest to black,
    highest to white. Values that are no numbers become the lowest.
    """
    low, high = np.inf, -np.inf
    for _, values in _strips(image):
        grey = values.astype(np.float32)
        finite = np.isfinite(grey)
        low = min(low, float(grey.min(where=finite, initial=np.inf)))
        high = max(high, float(grey.max(where=finite, initial=-np.inf)))
    ranges = {"F": (1, 255, 65535), "I": (255, 65535)}.get(image.mode, (65535,))
    top = next((top for top in ranges if 0 <= low <= high <= top), None)
    floor, span = (low, high - low) if top is None else (0.0, float(top))
    key = image.info.get("transparency")
    flat = Image.new("L", image.size)
    for corner, values in _strips(image):
        grey = values.astype(np.float32)
        levels = _levels(np.where(np.isfinite(grey), grey, np.float32(low)), floor, span)
        shown = levels if key is None else np.where(values == key, np.uint8(_WHITE), levels)
        flat.paste(Image.fromarray(shown), corner)
    return flat


def _strips(image: Image.Image) -> Iterator[tuple[tuple[int, int], NDArray[Any]]]:
    """The picture in pieces, each with its corner: copies in floats of all of it would take gigabytes."""
    width, height = image.size
    across = min(width, _STRIP_PIXELS)
    down = max(1, _STRIP_PIXELS // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            box = (left, top, min(left + across, width), min(top + down, height))
            yield (left, top), np.asarray(image.crop(box))


def _levels(grey: NDArray[np.float32], floor: float, span: float) -> Pixels:
    """`floor` to `floor + span` as 0 to 255; a picture without any range, or any number, is black."""
    if not np.isfinite(floor) or not 0 < span < np.inf:
        return np.zeros(grey.shape, np.uint8)
    levels: Pixels = np.rint((grey - floor) / span * _WHITE).clip(0, _WHITE).astype(np.uint8)
    return levels


def _fit(image: Image.Image, size: int, *, fast: bool) -> Image.Image:
    """RGB, its longest side `size` pixels, its shortest at least 1.

    Bicubic is what the authors of the models use. On a photograph of 1024 px, to 448, it costs 6.8 ms of CPU;
    Lanczos costs 9.8 ms and differs from it by 46.6 dB PSNR; Hamming, 4.0 ms and 46.0 dB: no further from
    bicubic than the choice between the two usual filters, so it is the fast one. It has no use for
    enlarging. `reducing_gap` >= 2 saves nothing below four times the size, and less costs 3 dB.
    """
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    shrink = fast and scale < 1
    filter_ = Image.Resampling.HAMMING if shrink else Image.Resampling.BICUBIC
    gap = 2.0 if shrink else None
    fitted = image.resize((width, height), filter_, reducing_gap=gap)
    return fitted if fitted.mode == "RGB" else fitted.convert("RGB")


def _paper(image: Image.Image, size: int) -> Pixels:
    """uint8 [size, size, 3], BGR: `image` in the middle of white; odd margins are wider below and right."""
    width, height = image.size
    square = np.full((size, size, 3), _WHITE, np.uint8)
    left, top = (size - width) // 2, (size - height) // 2
    bgr = np.frombuffer(image.tobytes("raw", "BGR"), np.uint8).reshape(height, width, 3)
    square[top : top + height, left : left + width] = bgr
    return square


def _explained(error: Exception, file: BinaryIO, path: str) -> LorakeetError:
    """The typed error that fits what Pillow raised."""
    # A damaged file may also send its decoder to places where no file goes on.
    if isinstance(error, OSError) and error.errno is not None and not _is_readable(file):
        return FileUnreadable(f"{_name(path)} cannot be read to its end.", where=path)
    if _cut_short(file):
        return ImageTruncated(f"{_name(path)} ends too early.", where=path, hint="Copy or download it again.")
    return ImageInvalid(
        f"{_name(path)} is damaged, or no picture of a known format.",
        where=path,
        details={"formats": list(FORMATS)},
    )


def _is_readable(file: BinaryIO) -> bool:
    try:
        file.seek(0)
        while file.read(_CHUNK_BYTES):
            pass
    except OSError:
        return False
    return True


def _cut_short(file: BinaryIO) -> bool:
    try:
        return ends_early(file)
    except OSError:
        return False


def _name(path: str) -> str:
    """The file's own name, quoted and printable: names may hold newlines, or bytes that are no UTF-8."""
    return repr(os.path.basename(path))
