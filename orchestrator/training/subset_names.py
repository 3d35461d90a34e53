"""To which subset a picture of a dataset belongs, by its folder. Pure.

The same rule as for folders that a kernel looks through itself: a subset is the source, a folder in it such
as `10_cat`, and each folder that the settings name; a picture belongs to the nearest of them above it.
"""

import re
from collections.abc import Container, Sequence
from typing import Final

_REPEATED: Final = re.compile(r"(\d+)_.+", re.DOTALL)


def subset_of(folders: Sequence[str], named: Container[str], source: str) -> str | None:
    """The name of the subset of a picture that lies in `folders`, told from the source on.

    `named` are those of the settings, `source` is the name of the source's folder. None for pictures in a
    folder that is repeated no times.
    """
    for end in range(len(folders), 0, -1):
        name = "/".join(folders[:end])
        if name in named or (end == 1 and _repeats(name)):
            return name
    return None if folders and _repeats(folders[0]) == 0 else source


def _repeats(name: str) -> int | None:
    """How often a folder of that name is repeated; None where it says nothing of it."""
    found = _REPEATED.fullmatch(name)
    return None if found is None else int(found[1])
