"""The labels of a tagger: `selected_tags.csv`, as the WD14 family publishes it."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.errors import FileUnreadable, ModelMismatch

RATING: Final = 9
GENERAL: Final = 0
CHARACTER: Final = 4
_COLUMNS: Final = {"name", "category"}


class Labels:
    """Names and categories (int16 [tags]) by output index; categories not named above are never shown."""

    def __init__(self, names: list[str], categories: NDArray[np.int16]) -> None:
        self.names = names
        self.categories = categories
        self.ratings = np.flatnonzero(categories == RATING)
        self.shown = np.flatnonzero((categories == GENERAL) | (categories == CHARACTER))

    def __len__(self) -> int:
        return len(self.names)


def read(path: str) -> Labels:
    """The labels in the csv at `path` (header with at least name and category; one row an output).

    Raises FileUnreadable and ModelMismatch, naming line and column.
    """
    names: list[str] = []
    categories: list[int] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if missing := _COLUMNS - set(rows.fieldnames or ()):
                raise ModelMismatch(f"{_name(path)} has no column {', '.join(sorted(missing))}.", where=path)
            for row in rows:
                names.append(_text(row["name"], path, rows.line_num))
                categories.append(_category(row["category"], path, rows.line_num))
    except OSError as error:
        raise FileUnreadable(f"{_name(path)} cannot be read.", where=path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ModelMismatch(f"{_name(path)} is not a table of text in UTF-8.", where=path) from error
    return Labels(names, np.array(categories, np.int16))


def _text(name: str | None, path: str, line: int) -> str:
    if name is None:
        raise ModelMismatch(f"{_name(path)}, line {line}: the row ends before the name.", where=path)
    return name


def _category(text: str | None, path: str, line: int) -> int:
    try:
        return int(np.int16(text or ""))
    except (ValueError, OverflowError):
        raise ModelMismatch(
            f"{_name(path)}, line {line}: {text!r} is not the number of a category.", where=path
        ) from None


def _name(path: str) -> str:
    return Path(path).name
