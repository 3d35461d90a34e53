"""What a command of surgery is to do, before anybody does it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

#: An outcome in words.
Words = Callable[[Any], Iterator[str]]


class Task(NamedTuple):
    """What is to be done: `method` with `settings`, a Struct of the type `kind`. `file` and `out` are paths
    as they travel; there is no `file` where the settings name all, and no `out` where `file` is changed."""

    method: str
    kind: Any
    settings: msgspec.Struct
    file: str | None
    out: str | None
    words: Words
