"""How much of what a file says goes into an answer: a header may have 100 MB, a message 8 MiB."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

#: Keys, tags and texts that are listed of one kind.
LISTED: Final = 1000
#: Characters of a name or key.
NAME_CHARS: Final = 300
#: Characters of one text of metadata.
TEXT_CHARS: Final = 4096
#: Characters of all texts of one kind together.
ALL_CHARS: Final = 1 << 20
#: Sentences about one file.
WARNINGS: Final = 100
#: Values that a count by rank or alpha tells apart.
VALUES: Final = 100
#: What all others are counted under.
OTHERS: Final = "others"


def cut(text: str, limit: int = TEXT_CHARS) -> str:
    """`text`, or its beginning and how long it is."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def names(found: Iterable[str]) -> list[str]:
    """The first of a list of keys."""
    return [cut(name, NAME_CHARS) for _, name in zip(range(LISTED), found, strict=False)]


def texts(found: Mapping[str, str]) -> dict[str, str]:
    """As many texts as fit, each cut; the rest is left out whole."""
    kept: dict[str, str] = {}
    left = ALL_CHARS
    for key, text in found.items():
        name, short = cut(key, NAME_CHARS), cut(text)
        left -= len(name) + len(short)
        if left < 0 or len(kept) == LISTED:
            break
        kept[name] = short
    return kept


def counts(found: Iterable[float | int | None]) -> dict[str, int]:
    """How often each number occurs, by rising number; the rarest of very many are counted together."""
    counted = Counter(found)
    common = dict(counted.most_common(VALUES))
    ordered = sorted(common, key=lambda value: (value is None, value or 0))
    kept = {number(value): common[value] for value in ordered}
    rest = counted.total() - sum(common.values())
    return kept | ({OTHERS: rest} if rest else {})


def counted(count: int, noun: str, verb: str) -> str:
    """`1 module has`, `2 modules have`, `3 keys are`: a number and the verb that goes with it."""
    one, many = verb.split("/")
    return f"{count:,} {noun} {one}" if count == 1 else f"{count:,} {noun}s {many}"


def number(value: float | int | None) -> str:
    """`8` for 8.0; `none` where there is none."""
    return "none" if value is None else f"{value:g}"
