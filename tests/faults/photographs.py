"""Many small pictures out of few real photographs, each another one."""

import io
import random
from collections.abc import Iterator
from typing import NamedTuple

from tests.builders.pictures import photo

_SOURCES = ("astronaut", "chelsea", "coffee", "china", "flower", "rocket", "hubble_deep_field", "retina")


class Photograph(NamedTuple):
    """A JPEG file."""

    name: str
    content: bytes


def photographs(count: int, *, side: int = 160, seed: int = 0) -> Iterator[Photograph]:
    """Square pieces of photographs, `side` pixels wide; the same for the same seed."""
    chance = random.Random(f"photographs {seed}")
    for number in range(count):
        name = _SOURCES[number % len(_SOURCES)]
        image = photo(name)
        left, top = chance.randrange(image.width - side), chance.randrange(image.height - side)
        file = io.BytesIO()
        image.crop((left, top, left + side, top + side)).save(file, "JPEG", quality=85)
        yield Photograph(f"{name}-{number:03}.jpg", file.getvalue())
