"""The task `thumbnail`: a small WEBP of a picture, upright, in sRGB, with nothing of its metadata."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from contract.errors import DiskFull, FileUnwritable, ImageInvalid
from contract.rules.paths import from_wire, to_wire
from orchestrator.workers.colours import displayable, in_srgb
from orchestrator.workers.files import Source, opened
from orchestrator.workers.pictures import opened_picture, orientation
from orchestrator.workers.tasks import UNFINISHED, ThumbnailArguments, ThumbnailResult

if TYPE_CHECKING:
    from PIL import Image, ImageFile

_QUALITY: Final = 80
#: Of 6. Of a photograph at 256 px, 4 (the default) takes twice the time and saves 3 % of the bytes.
_EFFORT: Final = 2
#: A progressive JPEG has about ten, and each may take as long as the picture is large.
_MAX_SCANS: Final = 200
_START_OF_SCAN: Final = b"\xff\xda"
_CHUNK_BYTES: Final = 1 << 20
_FULL: Final = ("ENOSPC", "EDQUOT", "EFBIG")


def make(arguments: ThumbnailArguments) -> ThumbnailResult:
    """Write the thumbnail and say how large it is.

    Raises what `opened` and `opened_picture` raise, DiskFull and FileUnwritable.
    """
    with opened(from_wire(arguments.path), from_wire(arguments.root)) as source:
        if arguments.sha256 is not None and source.sha256() != arguments.sha256:
            raise source.changed()
        with opened_picture(source, arguments.max_pixels) as (image, found):
            if found == "jpeg" and "progressive" in image.info:
                _check_scans(source)
            small = _small(image, arguments.size)
            content = _encoded(small)
        source.check_unchanged()
    _write(from_wire(arguments.target), content)
    return ThumbnailResult(width=small.width, height=small.height, bytes=len(content))


def _check_scans(source: Source) -> None:
    """Pixels cannot look like a marker; what metadata holds of them does not come near the limit."""
    source.file.seek(0)
    scans, last = 0, b""
    while chunk := source.file.read(_CHUNK_BYTES):
        scans += (last + chunk).count(_START_OF_SCAN)
        last = chunk[-1:]
    if scans > _MAX_SCANS:
        raise ImageInvalid(
            f"{source.name} was made to keep programs busy: it has {scans} scans.",
            where=source.where,
            hint="Save it anew.",
        )


def _small(image: "ImageFile.ImageFile", size: int) -> "Image.Image":
    from PIL import Image

    box = _box(image.size, size)
    _draft(image, size)
    profile = image.info.get("icc_profile")
    plain = displayable(image)
    # Only now: a PNG may carry its EXIF behind the pixels, and a TIFF has turned itself.
    turn = _turn(orientation(image))
    small = plain if plain.size == box else plain.resize(box, Image.Resampling.BICUBIC, reducing_gap=2.0)
    small = in_srgb(small, profile)
    return small if turn is None else small.transpose(turn)


def _box(whole: tuple[int, int], size: int) -> tuple[int, int]:
    """The shape of the whole picture, not of a decoded fraction of it, which is rounded; never larger."""
    width, height = whole
    scale = min(1.0, size / max(whole))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draft(image: "ImageFile.ImageFile", size: int) -> None:
    """Let a JPEG decode at a fraction of its size, its longest side at least twice `size`.

    `draft` compares both sides with the wish and takes the smaller ratio: the wish has the picture's shape.
    """
    width, height = image.size
    scale = next((each for each in (8, 4, 2) if max(width, height) >= 2 * size * each), 1)
    if scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))


def _turn(value: int) -> "Image.Transpose | None":
    from PIL.Image import Transpose

    turns = (
        None,
        Transpose.FLIP_LEFT_RIGHT,
        Transpose.ROTATE_180,
        Transpose.FLIP_TOP_BOTTOM,
        Transpose.TRANSPOSE,
        Transpose.ROTATE_270,
        Transpose.TRANSVERSE,
        Transpose.ROTATE_90,
    )
    return turns[value - 1]


def _encoded(image: "Image.Image") -> bytes:
    # Pillow hands on the profile of the original unless told otherwise.
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=_EFFORT, icc_profile=b"", exif=b"")
    return file.getvalue()


def _write(target: str, content: bytes) -> None:
    """Under another name first. Nothing is synced: what a power cut damaged is noticed and made again."""
    unfinished = target + UNFINISHED
    with _writing(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
            os.replace(unfinished, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise


@contextmanager
def _writing(target: str) -> Iterator[None]:
    """Raises DiskFull and FileUnwritable."""
    import errno

    try:
        yield
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) in _FULL:
            raise DiskFull("The disk is full.", where=to_wire(target)) from error
        raise FileUnwritable("The thumbnail cannot be written.", where=to_wire(target)) from error
