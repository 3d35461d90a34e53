"""Captions from scores, and captions onto captions. Host and kernel assemble with the same code.

The order of a caption: always_first, rating (if first), tags, rating (if last). No text appears twice;
blanks and underscores count as alike.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from contract.methods.tag import ScoredTag, TagSettings

Existing = Literal["skip", "append", "overwrite"]

#: Tags of at most so many characters keep their underscores: they are emoticons such as `^_^`.
EMOTICON_LENGTH: Final = 3


def assemble(rating: Mapping[str, float], tags: Sequence[ScoredTag], settings: TagSettings) -> str:
    """The caption of one picture.

    `rating` and `tags` are as in a TaggedImage; `tags` may hold more than the thresholds admit.
    """
    return settings.separator.join(caption_tags(rating, tags, settings))


def caption_tags(rating: Mapping[str, float], tags: Sequence[ScoredTag], settings: TagSettings) -> list[str]:
    """The texts of the caption of one picture, in order."""
    likeliest = [_written(name, settings) for name in sorted(rating, key=lambda name: -rating[name])[:1]]
    parts = likeliest if settings.ratings == "first" else []
    parts = [*parts, *_texts(_ordered(_selected(tags, settings), settings), settings)]
    parts += likeliest if settings.ratings == "last" else []
    excluded = _same_tags(settings.exclude)
    return _unique([*settings.always_first, *(part for part in parts if same_tag(part) not in excluded)])


def lowest_score(settings: TagSettings) -> float:
    """The score from which on tags must be kept to assemble any caption of these settings."""
    return min(settings.score_floor, settings.general_threshold, settings.character_threshold)


def split(caption: str, separator: str) -> list[str]:
    """The tags of a caption. The separator counts without the blanks around it, as people type it."""
    return [tag for each in caption.split(separator.strip() or separator) if (tag := each.strip())]


def combine(
    existing: str | None, new: str, mode: Existing, separator: str, *, first: Sequence[str] = ()
) -> str | None:
    """What a caption file should hold, or None where it must stay as it is.

    `existing` is the text of the file, None where there is none. Appending keeps the old tags in their order
    and adds those that are new; only what must open every caption, `first`, comes before them.
    """
    if existing is None or mode == "overwrite":
        return new
    if mode == "skip":
        return None
    return separator.join(_unique([*first, *split(existing, separator), *split(new, separator)]))


def same_tag(tag: str) -> str:
    """The form in which two spellings of one tag are equal."""
    return tag.strip().replace("_", " ").replace("\\(", "(").replace("\\)", ")").casefold()


def _same_tags(tags: Iterable[str]) -> set[str]:
    return {same_tag(tag) for tag in tags}


def _selected(tags: Sequence[ScoredTag], settings: TagSettings) -> list[ScoredTag]:
    thresholds = {"general": settings.general_threshold, "character": settings.character_threshold}
    excluded = _same_tags(settings.exclude)
    return [
        tag for tag in tags if tag.score >= thresholds[tag.category] and same_tag(tag.name) not in excluded
    ]


def _ordered(tags: list[ScoredTag], settings: TagSettings) -> list[ScoredTag]:
    if settings.order == "model":
        tags = sorted(tags, key=lambda tag: tag.index)
    else:
        tags = sorted(tags, key=lambda tag: (-tag.score, tag.index))
    if settings.character_tags_first:
        tags = sorted(tags, key=lambda tag: tag.category != "character")
    return tags


def _texts(tags: Iterable[ScoredTag], settings: TagSettings) -> Iterator[str]:
    replaced = {same_tag(tag): text for tag, text in settings.replace.items()}
    for tag in tags:
        if (text := replaced.get(same_tag(tag.name))) is not None:
            yield text
            continue
        names = (
            _expanded(tag.name)
            if tag.category == "character" and settings.expand_character_tags
            else [tag.name]
        )
        yield from (_written(name, settings) for name in names)


def _expanded(name: str) -> list[str]:
    """`name_(series)` → name, series; only the last bracket counts: `a_(b)_(c)` → `a_(b)`, `c`."""
    head, bracket, series = name.rpartition("_(")
    return [head, series[:-1]] if bracket and head and series.endswith(")") else [name]


def _written(name: str, settings: TagSettings) -> str:
    if settings.remove_underscores and len(name) > EMOTICON_LENGTH:
        name = name.replace("_", " ")
    if settings.escape_brackets:
        name = name.replace("(", "\\(").replace(")", "\\)")
    return name


def _unique(texts: Iterable[str]) -> list[str]:
    seen: dict[str, str] = {}
    for text in texts:
        if text:
            seen.setdefault(same_tag(text), text)
    return list(seen.values())
