"""How often each tag is in the captions of a subset: what people see of a LoRA's pictures elsewhere."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from contract.methods.training.captions import Captions
from trainer.output.facts import TrainingFacts

#: Characters of all tags together, so that a file of weights does not become one of sentences.
_MOST: Final = 1 << 20


def tag_counts(facts: TrainingFacts) -> list[dict[str, int]]:
    """Tag → pictures that have it, for each subset; the commonest first, of equals by the alphabet.

    Tags are counted as the files have them, once a picture whatever its repeats, in small letters as the
    reference trainer counts them. Of very many the rarest are left out.
    """
    counts: list[Counter[str]] = [Counter() for _ in facts.subsets]
    for picture in facts.pictures:
        rules = facts.subsets[picture.subset].captions
        counts[picture.subset].update(_tags(picture.caption, rules))
    return _fitting([dict(sorted(each.items(), key=lambda item: (-item[1], item[0]))) for each in counts])


def _tags(caption: str, rules: Captions) -> list[str]:
    """Each once for every time it is there, as the reference trainer counts."""
    if rules.keep_separator:
        caption = caption.replace(rules.keep_separator, rules.separator)
    return [tag for part in caption.lower().split(rules.separator) if (tag := part.strip())]


def _fitting(counts: Sequence[dict[str, int]]) -> list[dict[str, int]]:
    """The commonest of all that fit."""
    every = [(-count, tag, number) for number, each in enumerate(counts) for tag, count in each.items()]
    left, kept = _MOST, [set[str]() for _ in counts]
    for _, tag, number in sorted(every):
        left -= len(tag)
        if left < 0:
            break
        kept[number].add(tag)
    return [
        {tag: count for tag, count in each.items() if tag in kept[number]}
        for number, each in enumerate(counts)
    ]
