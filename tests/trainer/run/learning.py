"""What the proofs of training share: small models in fp32, and pictures that can be learned."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from trainer.fixtures import Fixture, write

#: Pixels of a side, and the only bucket there is then: a latent of 8 × 8.
SIDE: Final = 64
#: Over `runs.QUICK`: all modules, one size, and files of numbers as they are.
WHOLE: Final[Mapping[str, Any]] = {
    "network": {"include": []},
    "data": {"resolution": SIDE, "buckets": {"max_side": SIDE}, "captions": {"max_tokens": 75}},
    "saving": {"naming": "peft"},
    "metadata": {"recipe": False},
}


@cache
def fixture(family: str, folder: Path) -> Fixture:
    """A small model, written once for each folder."""
    return write(family, folder, dtype="fp32")


def drawn(folder: Path, captions: Mapping[str, str]) -> Path:
    """A folder with a picture for each caption, by name: fields of colours, as pictures have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, caption) in enumerate(captions.items()):
        fields = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(fields).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption, "utf-8")
    return folder
