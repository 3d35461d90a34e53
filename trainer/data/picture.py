"""A picture file as training wants it: whole, upright, in RGB, cut to its bucket; or a typed error.

What a file is and how it is decoded is the matter of `trainer.pictures`. Everything is decoded at full size:
drafts of JPEGs change pixels. Every function is safe to call from many threads at once.
"""

import hashlib
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.errors import ManifestInvalid
from contract.rules.buckets import Placed, Size
from contract.rules.paths import to_wire
from trainer.pictures.colours import flat
from trainer.pictures.file import PictureFile, budget_for, opened
from trainer.pictures.orientation import lies, orientation, orientation_undecoded, tells_late, turned

#: The limit for decoding unless a setting says otherwise.
MAX_PIXELS: Final = 64_000_000

_CHUNK_BYTES: Final = 1 << 20
#: Of the process, as its memory is: caching and loading have threads of their own.
_BUDGET: Final = budget_for(MAX_PIXELS)

Pixels = NDArray[np.uint8]


class Facts(NamedTuple):
    """What a file says before it is decoded: its size as people see it, and the SHA-256 of its bytes."""

    size: Size
    sha256: str


class Corner(NamedTuple):
    """Where the cut begins in the scaled picture, in pixels from its left and from its top."""

    left: int
    top: int


def look(path: str, *, max_pixels: int = MAX_PIXELS) -> Facts:
    """The facts of the picture at `path`; of its pixels, only the number is looked at.

    Raises FileMissing, FileUnreadable, ImageEmpty, ImageTruncated, ImageInvalid, ImageTooLarge, OutOfMemory.
    """
    with opened(path, max_pixels=max_pixels, budget=_BUDGET) as picture:
        return Facts(_size(picture), _sha256(picture.file))


def decode(path: str, *, max_pixels: int = MAX_PIXELS, sha256: str | None = None) -> Image.Image:
    """The whole picture at `path`, upright, in RGB, on white where it is transparent.

    Raises what `look` raises, and ManifestInvalid where the file is not the one with `sha256`.
    """
    with opened(path, max_pixels=max_pixels, budget=_BUDGET) as picture:
        if sha256 not in (None, _sha256(picture.file)):
            raise changed(path)
        with picture.decoded() as image:
            return turned(flat(image).convert("RGB"), orientation(image))


def changed(path: str) -> ManifestInvalid:
    """What a user is told of a file that is not the one that was meant."""
    named = to_wire(path)
    return ManifestInvalid(
        f"`{named}` was changed since it was listed.",
        where=named,
        hint="Put it back as it was, or start the job anew.",
    )


def centre(placed: Placed) -> Corner:
    """The corner of a cut from the middle."""
    bucket, resized = placed
    return Corner((resized.width - bucket.width) // 2, (resized.height - bucket.height) // 2)


def cut(image: Image.Image, placed: Placed, corner: Corner, *, flip: bool = False) -> Pixels:
    """uint8 [height, width, 3], RGB: `image` scaled to `placed.resized`, the bucket cut out at `corner`, and
    that mirrored if `flip`.

    Lanczos, as Pillow has it, which takes every pixel into account. The cut is made while scaling: what is
    cut off of a picture of 1 x 5000 would be gigabytes.
    """
    bucket, resized = placed
    across, down = image.width / resized.width, image.height / resized.height
    left, top = corner.left * across, corner.top * down
    right, bottom = (corner.left + bucket.width) * across, (corner.top + bucket.height) * down
    box = (left, top, min(right, image.width), min(bottom, image.height))
    fitted = image.resize(bucket, Image.Resampling.LANCZOS, box=box)
    return np.array(fitted.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else fitted)


def _size(picture: PictureFile) -> Size:
    """As people see it."""
    image, size = picture.image, Size(picture.width, picture.height)
    # Pillow gives the size of a TIFF as people see it, that of everything else as it is stored.
    if image.format == "TIFF":
        return size
    if image.format == "PNG" and tells_late(picture.file):
        with picture.decoded() as image:
            way = orientation(image)
    else:
        way = orientation_undecoded(image)
    return Size(size.height, size.width) if lies(way) else size


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
