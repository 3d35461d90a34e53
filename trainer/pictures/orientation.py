"""Which way a picture is up."""

from collections.abc import Callable
from typing import BinaryIO, Final

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TAG: Final = 0x0112  # EXIF 2.3, table 4
_SIGNATURE_BYTES: Final = 8
# EXIF, and the texts that programs put EXIF or XMP into.
_TELLING: Final = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


def orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1 where there is none, or none that makes sense.

    The picture is decoded: a PNG may carry its EXIF behind the pixels, and a TIFF has turned itself then.
    """
    return _sensible(image.getexif)


def orientation_undecoded(image: Image.Image) -> int:
    """The same by what stands in front of the pixels, which is all there is unless `tells_late`."""
    if isinstance(image, PngImageFile):
        # Its own one decodes the pixels, to look behind them.
        return _sensible(lambda: super(PngImageFile, image).getexif())
    return _sensible(image.getexif)


def tells_late(file: BinaryIO) -> bool:
    """Whether a PNG has, behind its pixels, what may say which way it is up.

    Chunks are a length, a type, so many bytes and four more (PNG, third edition, 5.3).
    """
    at, is_behind = _SIGNATURE_BYTES, False
    while True:
        file.seek(at)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if len(kind) < 4:
            return False
        if is_behind and kind in _TELLING:
            return True
        is_behind = is_behind or kind == b"IDAT"
        at += length + 12


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The picture upright; the same object where it is already."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def lies(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5


def _sensible(read: Callable[[], Image.Exif]) -> int:
    try:
        value = read().get(_TAG, 1)
    # Metadata is written by every program there is; a picture never fails because of it.
    except Exception:  # noqa: BLE001
        return 1
    return value if value in _TURNS else 1
