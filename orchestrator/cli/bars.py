"""Small pictures of numbers, made of characters."""

from collections.abc import Iterator, Sequence
from typing import Final

#: Rows of a column chart, and the columns that it may have on a terminal of 80.
HEIGHT: Final = 3
WIDTH: Final = 66
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_NO_NUMBER: Final = "·"
#: What a number is drawn as, its blocks and the room behind them, from the widest.
_CELLS: Final = ((2, 1), (1, 1), (1, 0))


def columns(values: Sequence[float | None], labels: Sequence[str]) -> Iterator[str]:
    """A chart with a column for every number, the largest of full height, and below it the labels with room.

    Numbers that are not known are a dot.
    """
    largest = max((value for value in values if value is not None), default=0.0)
    thick, gap = _cells(len(values))
    steps = [None if value is None else _eighths(value, largest) for value in values]
    for row in reversed(range(HEIGHT)):
        cells = [_cell(step, row) for step in steps]
        yield "".join(cell * thick + " " * gap for cell in cells).rstrip()
    yield _axis(labels, thick + gap)


def _cells(count: int) -> tuple[int, int]:
    return next((cell for cell in _CELLS if sum(cell) * count <= WIDTH), _CELLS[-1])


def bar(value: float, largest: float, width: int, character: str) -> str:
    """A bar of up to `width` characters; something is there for whatever is more than nothing."""
    if not value or not largest:
        return ""
    return character * max(1, round(value / largest * width))


def _eighths(value: float, largest: float) -> int:
    """How high a column is, in eighths of a row."""
    if not largest or not value:
        return 0
    return max(1, round(value / largest * HEIGHT * 8))


def _cell(step: int | None, row: int) -> str:
    if step is None:
        return _NO_NUMBER if row == 0 else " "
    return _EIGHTHS[min(max(step - row * 8, 0), 8)]


def _axis(labels: Sequence[str], width: int) -> str:
    """The labels below their columns: of each kind the first that has room."""
    line = ""
    told: set[str] = set()
    for index, label in enumerate(labels):
        kind = label.rstrip("0123456789")
        if kind not in told and (not line or len(line) < index * width):
            line = line.ljust(index * width) + label
            told.add(kind)
    return line
