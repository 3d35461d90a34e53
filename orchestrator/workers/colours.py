"""Every pixel format that files have, brought to what a browser shows: 8 bits a channel, sRGB, alpha kept."""

import io
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL import Image, ImageCms

_WHITE: Final = 255


def displayable(image: "Image.Image") -> "Image.Image":
    """`image`, decoded, in mode L, RGB, RGBA or, for its profile to be applied, CMYK."""
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image)
    if image.has_transparency_data:
        return _with_alpha(image)
    if image.mode == "CMYK":
        return _cmyk_upright(image)
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def in_srgb(image: "Image.Image", profile: bytes | None) -> "Image.Image":
    """`image`, one that `displayable` made, in RGB or RGBA as sRGB shows it.

    A profile that does not fit the pixels, or is none, counts as absent: browsers do the same.
    """
    colours = image.convert("RGB") if image.mode == "RGBA" else image
    shown = _applied(colours, profile) if profile else None
    shown = colours.convert("RGB") if shown is None else shown
    if image.mode == "RGBA":
        shown.putalpha(image.getchannel("A"))
    return shown


def _applied(image: "Image.Image", profile: bytes) -> "Image.Image | None":
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@cache
def _srgb() -> "ImageCms.ImageCmsProfile":
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _with_alpha(image: "Image.Image") -> "Image.Image":
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > _WHITE:
        # A colour key of 16 bits a channel, for pixels that Pillow has brought to 8.
        image.info["transparency"] = tuple(level >> 8 for level in key)
    if image.mode == "La":
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _cmyk_upright(image: "Image.Image") -> "Image.Image":
    """Pillow turns every CMYK JPEG over, as Adobe's are stored; those without Adobe's mark are not."""
    if image.format == "JPEG" and "adobe" not in image.info:
        from PIL import ImageChops

        return ImageChops.invert(image)
    return image


def _eight_bit(image: "Image.Image") -> "Image.Image":
    """Grey of 16 or 32 bits, or float, as mode L, or RGBA where a level stands for transparent.

    The scale is the smallest usual range that holds all the values: 0 to 65535 for 16-bit files; also 0 to
    255 for 32-bit ones; also 0 to 1 for floats. Values beyond all of these are stretched, lowest to black,
    highest to white.
    """
    ranges = {"F": (1, 255, 65535), "I": (255, 65535)}.get(image.mode, (65535,))
    # Only these two modes can be computed with.
    grey = image if image.mode == "F" else image.convert("I")
    low, high = _extrema(grey)
    top = next((top for top in ranges if 0 <= low <= high <= top), None)
    floor, span = (low, high - low) if top is None else (0.0, float(top))
    factor = _WHITE / span if 0 < span < float("inf") else 0.0
    flat = grey.point(lambda level: level * factor - floor * factor).convert("L")
    key = image.info.get("transparency")
    return _keyed(flat, grey, key) if isinstance(key, int) and grey.mode == "I" else flat


def _extrema(image: "Image.Image") -> tuple[float, float]:
    low, high = image.getextrema()
    assert not isinstance(low, tuple) and not isinstance(high, tuple)
    return low, high


def _keyed(flat: "Image.Image", levels: "Image.Image", key: int) -> "Image.Image":
    from PIL import ImageMath

    shown = ImageMath.lambda_eval(lambda of: (of["levels"] != key) * _WHITE, levels=levels)
    rgba = flat.convert("RGBA")
    rgba.putalpha(shown.convert("L"))
    return rgba
