"""Whatever colours a file holds, as eight bits on white."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

_WHITE: Final = 255
_STRIP_PIXELS: Final = 1 << 20


def flat(image: Image.Image) -> Image.Image:
    """The picture in mode RGB or L, transparency replaced by white, every bit depth brought to 8.

    The same object where it is so already.
    """
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


def _levels(grey: NDArray[np.float32], floor: float, span: float) -> NDArray[np.uint8]:
    """`floor` to `floor + span` as 0 to 255; a picture without any range, or any number, is black."""
    if not np.isfinite(floor) or not 0 < span < np.inf:
        return np.zeros(grey.shape, np.uint8)
    levels: NDArray[np.uint8] = np.rint((grey - floor) / span * _WHITE).clip(0, _WHITE).astype(np.uint8)
    return levels
