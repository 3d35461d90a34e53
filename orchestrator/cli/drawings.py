"""Pictures to try things with: a few simple drawings, the same every time."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw


class _Scene(NamedTuple):
    """A picture: its size in pixels, the colours of sky, ground and sun, and where the sun stands."""

    size: tuple[int, int]
    sky: str
    ground: str
    sun: str
    at: tuple[float, float]


_SCENES: Final = (
    _Scene((192, 128), "#8ecae6", "#588157", "#ffb703", (0.25, 0.3)),
    _Scene((128, 192), "#ffb4a2", "#6d597a", "#e63946", (0.5, 0.55)),
    _Scene((160, 160), "#023047", "#0b090a", "#f1faee", (0.75, 0.2)),
    _Scene((192, 128), "#e9c46a", "#bc6c25", "#f4f1de", (0.6, 0.4)),
    _Scene((128, 192), "#caf0f8", "#ffffff", "#fff3b0", (0.3, 0.25)),
    _Scene((160, 160), "#c1121f", "#003049", "#fdf0d5", (0.4, 0.5)),
)


def draw(folder: Path) -> int:
    """Draw them all into a folder; how many there are. Raises OSError."""
    from PIL import Image, ImageDraw

    for number, scene in enumerate(_SCENES, 1):
        picture = Image.new("RGB", scene.size, scene.sky)
        _paint(ImageDraw.Draw(picture), scene)
        picture.save(folder / f"{number}.png")
    return len(_SCENES)


def _paint(pen: "ImageDraw", scene: _Scene) -> None:
    """A sun over hills, and a house."""
    width, height = scene.size
    x, y, radius = scene.at[0] * width, scene.at[1] * height, min(scene.size) / 7
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), scene.sun)
    pen.ellipse((-width / 2, height * 0.65, width * 0.9, height * 1.6), scene.ground)
    pen.ellipse((width * 0.3, height * 0.75, width * 1.7, height * 1.6), scene.ground)
    side, left, top = min(scene.size) / 5, width * 0.62, height * 0.66
    pen.rectangle((left, top, left + side, top + side), scene.sun)
    pen.polygon([(left - 3, top), (left + side + 3, top), (left + side / 2, top - side * 0.7)], scene.sky)
