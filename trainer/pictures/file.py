"""A picture file, open and known to be one that can be decoded; or a typed error that names it."""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from PIL import Image, ImageFile, UnidentifiedImageError

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
from contract.rules.paths import to_wire
from trainer.pictures import avif
from trainer.pictures.budget import Budget
from trainer.pictures.formats import FORMATS

_CHUNK_BYTES: Final = 1 << 20
_MAX_REPAIR_BYTES: Final = 256 << 20  # such a file is held in memory twice
# Pillow's plugins for WebP and AVIF, and some others, read the whole file to see its header. The most a
# picture of so many pixels may have: twice what 16 bits of four channels take, and room for its metadata.
_MAX_BYTES_PER_PIXEL: Final = 8
_MAX_BYTES_BESIDES: Final = 64 << 20
_LARGE_FILE: Final = 32 << 20  # such files are read one after the other
# Peak memory of a pixel, decoder, copies and all, in bytes (Pillow 13.0, measured: light 1.0 to 4.4, others
# 4.5 to 19.3, most of all JPEG 2000). A progressive JPEG also has its coefficients, at any scale.
_LIGHT, _HEAVY, _COEFFICIENTS = 5, 20, 6
_LIGHT_FORMATS: Final = ("JPEG", "MPO", "PNG", "BMP")
_SLACK: Final = 128  # encoders in hardware code whole blocks, the largest of AV1 have this side


def budget_for(max_pixels: int) -> Budget:
    """Memory for two of the largest pictures at a time, or many small ones; for all threads of a job."""
    return Budget(2 * max_pixels * _HEAVY)


class PictureFile:
    """A file whose picture has its header read, and nothing decoded.

    `width` and `height` are those of the header, whatever is decoded of it later.
    """

    def __init__(
        self, file: BinaryIO, image: ImageFile.ImageFile, coded: int | None, budget: Budget | None
    ) -> None:
        """`coded` pixels are to be decoded, None where nobody knows; of `budget` a share is taken for that,
        unless it is None because the thread has one.
        """
        self.file = file
        self.image = image
        self.width, self.height = image.size
        self._coded = coded
        self._budget = budget

    @contextmanager
    def decoded(self) -> Iterator[ImageFile.ImageFile]:
        """The picture with its pixels, once there is memory for them and for what becomes of them in the
        block.
        """
        if self._budget is None:
            self.image.load()
            yield self.image
            return
        with self._budget.share(self._cost()):
            self.image.load()
            yield self.image

    def _cost(self) -> int:
        """Bytes that decoding takes at its peak."""
        image = self.image
        if self._coded is None:
            return sys.maxsize
        is_light = image.format in _LIGHT_FORMATS and image.mode in ("L", "RGB")
        each = _LIGHT if is_light and "transparency" not in image.info else _HEAVY
        if image.format not in ("JPEG", "MPO"):
            return self._coded * each
        width, height = image.size  # as drafted
        coefficients = _COEFFICIENTS if "progressive" in image.info else 0
        return width * height * each + self.width * self.height * coefficients


@contextmanager
def opened(path: str, *, max_pixels: int, budget: Budget | None = None) -> Iterator[PictureFile]:
    """The picture file at `path`. `max_pixels` is compared with the size in its header; `budget` is shared by
    the threads that decode: a large picture waits until there is memory for it.

    Whatever goes wrong within the block becomes FileMissing, FileUnreadable, ImageEmpty, ImageTruncated,
    ImageInvalid, ImageTooLarge or OutOfMemory, with the path in `where`; errors of ours stay as they are.
    """
    with _file(path) as file:
        try:
            with _opened(file, path, max_pixels, budget or budget_for(max_pixels)) as picture:
                yield picture
        except LorakeetError:
            raise
        except MemoryError as error:
            raise OutOfMemory(
                f"There was not enough memory to decode {_name(path)}.",
                where=to_wire(path),
                hint="Make it smaller.",
            ) from error
        # Decoders of a dozen formats raise whatever their parsing stumbles over: KeyError, AssertionError,
        # zlib.error, … Whatever it is, it means that this file is no picture.
        except Exception as error:
            raise _explained(error, file, path) from error


@contextmanager
def _opened(file: BinaryIO, path: str, max_pixels: int, budget: Budget) -> Iterator[PictureFile]:
    # A thread has one share at a time: here, or when the header has told how much it takes.
    is_large = _check_bytes(file, max_pixels, path) > _LARGE_FILE
    with budget.share(sys.maxsize if is_large else 0), _image(file) as image:
        _check_pixels(*image.size, max_pixels, path)
        coded = _check_frame(file, image, max_pixels, path)
        yield PictureFile(file, image, coded, None if is_large else budget)


def _file(path: str) -> BinaryIO:
    """The file, open and known to be a regular one with bytes in it; opening a FIFO would wait for ever."""
    where = to_wire(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnreadable(f"{_name(path)} is not a file.", where=where)
        if status.st_size == 0:
            raise ImageEmpty(f"{_name(path)} is empty.", where=where, hint="Copy or download it again.")
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileMissing(f"{_name(path)} does not exist.", where=where) from error
    except OSError as error:
        raise FileUnreadable(f"{_name(path)} cannot be read.", where=where) from error


def _check_bytes(file: BinaryIO, max_pixels: int, path: str) -> int:
    """The length of the file, unless it is longer than any picture within the limit."""
    length = os.fstat(file.fileno()).st_size
    limit = max_pixels * _MAX_BYTES_PER_PIXEL + _MAX_BYTES_BESIDES
    if length > limit:
        raise ImageTooLarge(
            f"{_name(path)} has {length} bytes; a picture of {max_pixels} pixels has at most {limit}.",
            where=to_wire(path),
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
            where=to_wire(path),
            hint="Save it anew.",
        )
    return max(width * height, frame.width * frame.height)


def _image(file: BinaryIO) -> ImageFile.ImageFile:
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
            where=to_wire(path),
            hint="Make it smaller, or raise the limit for decoding.",
            details={"width": width, "height": height, "max_pixels": max_pixels},
        )


def _explained(error: Exception, file: BinaryIO, path: str) -> LorakeetError:
    """The typed error that fits what Pillow raised."""
    named, where = _name(path), to_wire(path)
    # A damaged file may also send its decoder to places where no file goes on.
    if isinstance(error, OSError) and error.errno is not None and not _is_readable(file):
        return FileUnreadable(f"{named} cannot be read to its end.", where=where)
    if _cut_short(file):
        return ImageTruncated(f"{named} ends too early.", where=where, hint="Copy or download it again.")
    return ImageInvalid(
        f"{named} is damaged, or no picture of a known format.",
        where=where,
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
