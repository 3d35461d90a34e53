"""What the scenarios of `train` work with: a small SD1.5 model and three pictures with their captions."""

from pathlib import Path
from typing import Final

from PIL import Image

from trainer import fixtures

#: Name, size and caption of each picture; their colors follow from their numbers.
_PICTURES: Final = (
    ("a", (64, 64), "cat, sitting, red"),
    ("b", (80, 64), "cat, walking, green"),
    ("c", (64, 80), "cat, asleep, blue"),
)


def build(folder: Path) -> None:
    """Make them in `folder`: `sd15.safetensors`, and `pictures` with the subset `2_cat`."""
    fixtures.write("sd15", folder)
    subset = folder / "pictures" / "2_cat"
    subset.mkdir(parents=True)
    for number, (name, size, caption) in enumerate(_PICTURES):
        color = tuple(255 if channel == number else 40 for channel in range(3))
        Image.new("RGB", size, color).save(subset / f"{name}.png")
        (subset / f"{name}.txt").write_text(caption, encoding="utf-8")
    (folder / "empty").mkdir()
    broken = folder / "broken" / "1_cat"
    broken.mkdir(parents=True)
    (broken / "cut.png").write_bytes((subset / "a.png").read_bytes()[:60])
    (broken / "cut.txt").write_text("cat", encoding="utf-8")
