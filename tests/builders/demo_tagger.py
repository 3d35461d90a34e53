"""The demo tagger: a small model in the WD14 interface whose tags mean something, so tests can state them.

It measures a picture in its graph: colours, brightness, contrast, shape, and on which side it is brighter.
`kernel/data/demo-tagger` holds what `build` writes; a test compares the two.

    python -m tests.builders.demo_tagger            writes it
    python -m tests.builders.demo_tagger --check    exits with 1 if it differs

Every measure is taken over the picture's **box**: the rows and columns from the first to the last that are
not pure white, so that the white a tagger pads with counts for nothing. A picture that is white all over is
its own box. Channels and brightness run from 0 to 1; brightness is 0.299 R + 0.587 G + 0.114 B.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.builders.graph import Graph, save_tags

SIZE = 64
FOLDER = Path(__file__).parents[2] / "kernel" / "data" / "demo-tagger"
FILES = ("model.onnx", "selected_tags.csv")

RATING, GENERAL, CHARACTER = 9, 0, 4


class Tag(NamedTuple):
    """A tag and its score: sigmoid(gain x (measure - threshold))."""

    name: str
    category: int
    measure: str  # a name of _measures
    threshold: float
    gain: float


# Thresholds lie in gaps between the photographs of scikit-image and scikit-learn, gains make the gaps wide:
# their scores are far from 0.35 and 0.85.
TAGS = (
    Tag("general", RATING, "redness", 0.33, -80),
    Tag("sensitive", RATING, "redness", 0.33, 80),
    Tag("questionable", RATING, "nothing", 4, 1),
    Tag("explicit", RATING, "nothing", 5, 1),
    Tag("red", GENERAL, "redness", 0.087, 120),
    Tag("green", GENERAL, "greenness", 0.04, 100),
    Tag("blue", GENERAL, "blueness", 0.04, 100),
    Tag("yellow", GENERAL, "yellowness", 0.1, 50),
    Tag("greyscale", GENERAL, "chroma", 0.01, -400),
    Tag("white_background", GENERAL, "whiteness", 0.45, 40),
    Tag("dark", GENERAL, "brightness", 0.31, -80),
    Tag("bright", GENERAL, "brightness", 0.605, 80),
    Tag("high_contrast", GENERAL, "contrast", 0.25, 100),
    Tag("bright_above", GENERAL, "above", 0.14, 80),
    Tag("bright_below", GENERAL, "above", -0.14, -80),
    Tag("bright_left", GENERAL, "left", 0.14, 80),
    Tag("bright_right", GENERAL, "left", -0.14, -80),
    Tag("wide_image", GENERAL, "width", 0.1, 80),
    Tag("tall_image", GENERAL, "width", -0.1, -80),
    Tag("square_image", GENERAL, "unevenness", 0.05, -120),
    Tag("^_^", GENERAL, "cheer", 0, 50),
    Tag("crimson_knight_(palette)", CHARACTER, "redness", 0.215, 60),
    Tag("emerald_ranger_(palette)", CHARACTER, "greenness", 0.215, 60),
    Tag("sapphire_mage_(palette)", CHARACTER, "blueness", 0.215, 60),
    Tag("grey_ghost", CHARACTER, "gloom", 0, 400),
)


def build(folder: Path) -> None:
    """Write `model.onnx` and `selected_tags.csv` into `folder`, byte for byte the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    g = Graph()
    measures = _measures(g)
    columns = [g("Unsqueeze", measures[tag.measure], g.const([1], np.int64)) for tag in TAGS]
    table = g("Concat", *columns, axis=1)  # [batch, tags]
    logits = g(
        "Mul",
        g("Sub", table, g.const([tag.threshold for tag in TAGS])),
        g.const([tag.gain for tag in TAGS]),
    )
    doc = "Lorakeet's demo tagger: colours, brightness and shape. tests/builders/demo_tagger.py defines it."
    g.save(folder / FILES[0], scores=g("Sigmoid", logits), size=SIZE, tags=len(TAGS), doc=doc)
    save_tags(folder / FILES[1], ((tag.name, tag.category) for tag in TAGS))


def _measures(g: Graph) -> dict[str, str]:
    """The measures by name, each float32 [batch].

    redness       R - max(G, B) of the mean colour; greenness and blueness likewise
    yellowness    min(R, G) - B - |R - G| of the mean colour
    chroma        mean of the largest minus the smallest channel
    whiteness     share of pixels whose smallest channel is at least 240/255
    brightness    mean; contrast: its standard deviation
    above, left   mean brightness of that half minus that of the other (a middle line is in neither)
    width         (width - height) / the longer; unevenness: its absolute value
    cheer         min(brightness - 0.55, chroma - 0.28): above 0 for bright and colourful pictures
    gloom         min(0.01 - chroma, 0.31 - brightness): above 0 for dark and grey pictures
    nothing       0
    """
    box = _Box(g)
    blue, green, red = (box.mean(channel) for channel in box.channels)
    brightness, chroma = box.mean(box.luma), box.mean(g("Sub", box.largest, box.smallest))
    above, left = box.half_difference(0), box.half_difference(1)
    width = box.width_minus_height()
    return {
        "redness": g("Sub", red, g("Max", green, blue)),
        "greenness": g("Sub", green, g("Max", red, blue)),
        "blueness": g("Sub", blue, g("Max", red, green)),
        "yellowness": g("Sub", g("Sub", g("Min", red, green), blue), g("Abs", g("Sub", red, green))),
        "chroma": chroma,
        "whiteness": box.mean(box.at_least(box.smallest, 239.5 / 255)),
        "brightness": brightness,
        "contrast": _deviation(g, box, brightness),
        "above": above,
        "left": left,
        "width": width,
        "unevenness": g("Abs", width),
        "cheer": g("Min", g("Sub", brightness, g.const(0.55)), g("Sub", chroma, g.const(0.28))),
        "gloom": g("Min", g("Sub", g.const(0.01), chroma), g("Sub", g.const(0.31), brightness)),
        "nothing": g("Mul", brightness, g.const(0.0)),
    }


def _deviation(g: Graph, box: "_Box", mean: str) -> str:
    variance = g("Sub", box.mean(g("Mul", box.luma, box.luma)), g("Mul", mean, mean))
    return g("Sqrt", g("Max", variance, g.const(0.0)))


class _Box:
    """The part of the picture that is not margin, and means over it.

    `channels`: B, G, R; with `smallest`, `largest` and `luma` all [batch, SIZE, SIZE], 0 to 1.
    """

    def __init__(self, g: Graph) -> None:
        self._g = g
        pixels = g("Div", "input", g.const(255.0))
        self.channels = [g("Gather", pixels, g.const(index, np.int64), axis=3) for index in range(3)]
        self.smallest = g("ReduceMin", pixels, axes=[3], keepdims=0)
        self.largest = g("ReduceMax", pixels, axes=[3], keepdims=0)
        weights = g.const([[0.114], [0.587], [0.299]])
        self.luma = g("Squeeze", g("MatMul", pixels, weights), g.const([3], np.int64))
        coloured = g("Sub", g.const(1.0), self.at_least(self.smallest, 254.5 / 255))
        self._index = g.const(np.arange(SIZE))
        lines = [g("ReduceMax", coloured, axes=[2 - axis], keepdims=0) for axis in (0, 1)]
        self._ends = [self._first_and_last(line) for line in lines]
        self._mask = g("Mul", self._between(0), self._between(1))

    def at_least(self, values: str, threshold: float) -> str:
        """1 where `values` are, 0 elsewhere."""
        return self._g("Cast", self._g("GreaterOrEqual", values, self._g.const(threshold)), to=1)

    def mean(self, values: str, part: str | None = None) -> str:
        """[batch]: the mean of `values` over the box, or over `part` of it; 0 where that has no pixel."""
        g = self._g
        mask = self._mask if part is None else g("Mul", self._mask, part)
        axes = g.const([1, 2], np.int64)
        total = g("ReduceSum", g("Mul", values, mask), axes, keepdims=0)
        return g("Div", total, g("Max", g("ReduceSum", mask, axes, keepdims=0), g.const(1.0)))

    def half_difference(self, axis: int) -> str:
        """[batch]: brightness of the half with the smaller indices minus that of the other."""
        g = self._g
        first, last = self._ends[axis]
        middle = g("Div", g("Add", first, last), g.const(2.0))
        low, high = self._line(axis, "Less", middle), self._line(axis, "Greater", middle)
        return g("Sub", self.mean(self.luma, low), self.mean(self.luma, high))

    def width_minus_height(self) -> str:
        """[batch]: as a share of the longer."""
        g = self._g
        height, width = (g("Add", g("Sub", last, first), g.const(1.0)) for first, last in self._ends)
        share = g("Div", g("Sub", width, height), g("Max", width, height))
        return g("Squeeze", share, g.const([1], np.int64))

    def _first_and_last(self, line: str) -> tuple[str, str]:
        """The indices, float32 [batch, 1], of the first and last 1 in `line` [batch, SIZE].

        A line of zeros has all its values equal: 0 and SIZE - 1, the whole of it.
        """
        g = self._g
        first, last = (g("ArgMax", line, axis=1, keepdims=1, select_last_index=end) for end in (0, 1))
        return g("Cast", first, to=1), g("Cast", last, to=1)

    def _between(self, axis: int) -> str:
        """1 from the first to the last index of the box along `axis`, 0 elsewhere."""
        first, last = self._ends[axis]
        return self._g(
            "Mul", self._line(axis, "GreaterOrEqual", first), self._line(axis, "LessOrEqual", last)
        )

    def _line(self, axis: int, comparison: str, bound: str) -> str:
        """1 where the index along `axis` compares so, 0 elsewhere; broadcasts over [batch, SIZE, SIZE]."""
        holds = self._g("Cast", self._g(comparison, self._index, bound), to=1)
        return self._g("Unsqueeze", holds, self._g.const([2 - axis], np.int64))


def drifted(folder: Path = FOLDER) -> list[str]:
    """The files in `folder` that differ from what `build` writes now."""
    with tempfile.TemporaryDirectory() as fresh:
        build(Path(fresh))
        return [
            name
            for name in FILES
            if not (folder / name).is_file()
            or (folder / name).read_bytes() != (Path(fresh) / name).read_bytes()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.builders.demo_tagger")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    if not parser.parse_args().check:
        build(FOLDER)
    elif names := drifted():
        sys.exit(
            f"{', '.join(names)}: not what tests/builders/demo_tagger.py writes. Run it without --check."
        )


if __name__ == "__main__":
    main()
