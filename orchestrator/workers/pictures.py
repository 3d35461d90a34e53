"""Image files as Pillow opens them: header only, limits checked, and every exception a typed error.

Decoders of a dozen formats raise whatever their parsing stumbles over. Whatever it is, it means that a file
is no picture; no caller sees anything but a LorakeetError, and none of Pillow's words travel.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, Final

from contract.errors import ImageInvalid, ImageTooLarge, ImageTruncated, LorakeetError, OutOfMemory
from contract.rules.endings import ends_early
from orchestrator.workers.files import Source
from orchestrator.workers.formats import HEAD_BYTES, format_of
from orchestrator.workers.tasks import Format

if TYPE_CHECKING:
    from PIL import Image, ImageFile

_PLUGINS: Final = ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tiff", "WebP")
# Some of Pillow's plugins read the whole file to see its header. The most a picture of so many pixels may
# have: twice what 16 bits of four channels take, and room for its metadata.
_MAX_BYTES_PER_PIXEL: Final = 8
_MAX_BYTES_BESIDES: Final = 64 << 20
_ORIENTATION: Final = 0x0112  # EXIF 2.3, table 4
_LATE_EXIF_BYTES: Final = 256 << 10
_MAX_REPAIR_BYTES: Final = 256 << 20  # such a file is held in memory twice


@contextmanager
def opened_picture(source: Source, max_pixels: int) -> Iterator[tuple["ImageFile.ImageFile", Format]]:
    """The picture with its header read and nothing decoded; whatever the block does with it may fail.

    Raises ImageTruncated, ImageInvalid, ImageTooLarge, OutOfMemory and FileUnreadable.
    """
    from PIL import Image

    _load_plugins()
    try:
        found = _allowed(source, max_pixels)
        with _open(source.file, found, max_pixels) as image:
            _check_pixels(source, image.size, max_pixels)
            yield image, found
    except LorakeetError:
        raise
    except MemoryError as error:
        raise OutOfMemory(
            f"There was not enough memory for {source.name}.", where=source.where, hint="Make it smaller."
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(source, f"has more pixels than the limit of {max_pixels}", max_pixels) from error
    except Exception as error:
        raise _explained(error, source) from error


def upright_size(image: "ImageFile.ImageFile", source: Source, found: Format) -> tuple[int, int]:
    """Width and height as people see them; the picture need not be decoded."""
    width, height = image.size
    # Pillow turns a TIFF by itself, and has told its size so.
    turned = found != "tiff" and _header_orientation(image, source, found) >= 5
    return (height, width) if turned else (width, height)


def orientation(image: "Image.Image") -> int:
    """1 to 8 as EXIF numbers them; 1 where there is none, or none that makes sense. Decodes a PNG."""
    return _orientation_in(image.getexif)


def _orientation_in(read: "Callable[[], Image.Exif]") -> int:
    try:
        value = read().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    # Metadata is written by every program there is; a picture never fails because of it.
    except Exception:  # noqa: BLE001
        return 1
    return value if value in range(1, 9) else 1


def _allowed(source: Source, max_pixels: int) -> Format:
    """The format, if it is one of ours and the file is no longer than a picture of it can be."""
    source.file.seek(0)
    found = format_of(source.file.read(HEAD_BYTES))
    if found is None:
        raise _invalid(source)
    if source.size_bytes > max_pixels * _MAX_BYTES_PER_PIXEL + _MAX_BYTES_BESIDES:
        has = f"has {source.size_bytes} bytes, more than a picture of {max_pixels} pixels"
        raise _too_large(source, has, max_pixels)
    return found


def _open(file: BinaryIO, found: Format, max_pixels: int) -> "ImageFile.ImageFile":
    """Open it as that format only.

    Pillow 13.0 (`_read_dpi_from_exif`) does not recognise a JPEG whose EXIF has a resolution of a wrong type:
    that one is opened again without its EXIF.
    """
    from PIL import Image, UnidentifiedImageError

    # Pillow raises beyond twice this, before a decoder reserves anything, and warns from here on.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        return Image.open(file, formats=(found.upper(),))
    except UnidentifiedImageError:
        length = file.seek(0, io.SEEK_END)
        if found != "jpeg" or length > _MAX_REPAIR_BYTES:
            raise
        file.seek(0)
        return Image.open(io.BytesIO(file.read().replace(b"Exif\0\0", b"none\0\0", 1)), formats=("JPEG",))


@cache
def _load_plugins() -> None:
    from importlib import import_module

    for plugin in _PLUGINS:
        import_module(f"PIL.{plugin}ImagePlugin")
    from PIL import AvifImagePlugin

    # A worker is one of several, and the stacks of threads count as its memory.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _check_pixels(source: Source, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        has = f"has {width} x {height} pixels, more than the limit of {max_pixels}"
        error = _too_large(source, has, max_pixels)
        error.details |= {"width": width, "height": height}
        raise error


def _header_orientation(image: "ImageFile.ImageFile", source: Source, found: Format) -> int:
    """The orientation without decoding: of a PNG, Pillow would read on to the end for it."""
    if found != "png" or "exif" in image.info:
        return orientation(image)
    return _orientation_in(lambda: _late_exif(source.file))


def _late_exif(file: BinaryIO) -> "Image.Exif":
    """What the eXIf chunk behind the pixels of a PNG says, where some programs write it."""
    from PIL import Image

    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - _LATE_EXIF_BYTES))
    tail = file.read(_LATE_EXIF_BYTES)
    at = tail.rfind(b"eXIf")
    end = at + 4 + int.from_bytes(tail[max(0, at - 4) : at], "big")
    is_whole = at >= 4 and zlib.crc32(tail[at:end]) == int.from_bytes(tail[end : end + 4], "big")
    exif = Image.Exif()
    if is_whole:
        exif.load(b"Exif\0\0" + tail[at + 4 : end])
    return exif


def _explained(error: Exception, source: Source) -> LorakeetError:
    """The typed error that fits what Pillow raised."""
    if isinstance(error, OSError) and error.errno is not None:
        # The disk's fault; or the file's, which may send its decoder to places where no file goes on.
        source.sha256()
    with source.reading():
        source.check_unchanged()
        if ends_early(source.file):
            return ImageTruncated(
                f"{source.name} ends too early.", where=source.where, hint="Copy or download it again."
            )
    return _invalid(source)


def _invalid(source: Source) -> ImageInvalid:
    return ImageInvalid(
        f"{source.name} is damaged, or no picture of a known format.",
        where=source.where,
        hint="PNG, JPEG, WEBP, GIF, AVIF, BMP, TIFF, JPEG 2000, PPM and PGM are known.",
    )


def _too_large(source: Source, has: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"{source.name} {has}.",
        where=source.where,
        hint="Make it smaller, or raise the limit for decoding.",
        details={"max_pixels": max_pixels},
    )
