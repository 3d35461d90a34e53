"""Real photographs in any number, all different: crops of those of scikit-image and scikit-learn."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench import cache
from tests.builders.pictures import photo

_NAMES = ("astronaut", "china", "flower", "coffee", "rocket", "chelsea", "camera", "retina")
#: Standard deviation of the grain, in levels of 255: an enlarged photograph is smoother than a camera's.
_GRAIN = 4.0
_QUALITY = 90


def jpegs(count: int, side: int) -> list[Path]:
    """`count` square JPEGs of `side` pixels, made once."""
    folder = cache.made(f"photos-{count}-{side}", lambda folder: _write(folder, count, side))
    return sorted(folder.iterdir())


def _write(folder: Path, count: int, side: int) -> None:
    random = np.random.default_rng(count + side)
    for index in range(count):
        image = _varied(photo(_NAMES[index % len(_NAMES)]), side, random)
        image.save(folder / f"{index:04}.jpg", quality=_QUALITY)


def _varied(image: Image.Image, side: int, random: np.random.Generator) -> Image.Image:
    """A random square of the picture, enlarged or shrunk, perhaps mirrored, with grain."""
    edge = int(min(image.size) * random.uniform(0.6, 1.0))
    left, top = (int(random.integers(0, length - edge + 1)) for length in image.size)
    crop = image.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + edge, top + edge))
    pixels = np.asarray(crop, np.float32) + random.normal(0, _GRAIN, (side, side, 1))
    if random.integers(2):
        pixels = pixels[:, ::-1]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
