"""Picture files as taggers want to see them: one square of 8-bit pixels, whatever the file holds.

What a file is and how it is decoded is the matter of `trainer.pictures`; this module owns the fitting. It
knows no model: the caller says how large the square is. Every function is safe to call from many threads at
once.

The geometry is that of the demo of the WD taggers (SmilingWolf/wd-tagger on the hub: white paper, the
picture in the middle, bicubic), except that the picture is scaled before it is padded: the same pixels
for less work, and a picture of 1 x 5000 needs no square of 25 million.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from trainer.pictures.budget import Budget
from trainer.pictures.colours import flat
from trainer.pictures.file import budget_for, opened
from trainer.pictures.orientation import lies, orientation, turned

__all__ = ["Prepared", "budget_for", "prepare"]

_WHITE = 255

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


def prepare(path: str, size: int, *, fast: bool, max_pixels: int, budget: Budget | None = None) -> Prepared:
    """The picture at `path`, its longest side scaled to `size` pixels.

    `fast` decodes JPEGs at a fraction of their size, no smaller than twice `size`, and shrinks with a
    narrower filter; both stay within the difference between the filters in common use (see `_fit`).
    `max_pixels` is compared with the size in the header, before anything is decoded. `budget` is shared by
    the threads that prepare pictures: a large one waits until there is memory for it.

    Raises FileMissing, FileUnreadable, ImageEmpty, ImageTruncated, ImageInvalid, ImageTooLarge or
    OutOfMemory, each with `where=path`.
    """
    with opened(path, max_pixels=max_pixels, budget=budget) as picture:
        if fast:
            _draft(picture.image, size)
        with picture.decoded() as image:
            way = orientation(image)
            pixels = _paper(turned(_fit(flat(image), size, fast=fast), way), size)
        width, height = picture.width, picture.height
    return Prepared(pixels, height, width) if lies(way) else Prepared(pixels, width, height)


def _draft(image: ImageFile.ImageFile, size: int) -> None:
    """Let a JPEG decode at 1/2, 1/4 or 1/8 of its size, its longest side at least twice `size`.

    `draft` compares both sides with the wish and takes the smaller ratio: the wish has the picture's shape.
    """
    width, height = image.size
    scale = next((s for s in (8, 4, 2) if max(width, height) >= 2 * size * s), 1)
    if scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))


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
