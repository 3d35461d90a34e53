"""What a picture is called in one epoch: its caption, shuffled and thinned as the settings say.

The rules are those of the reference trainer (kohya-ss/sd-scripts, `process_caption`), with two differences: a
caption of several lines is read whole, its lines joined, where that trainer drops all but the first; and
prefix and suffix are put around after the shuffle, so that they stay where they are.
"""

from random import Random
from typing import NamedTuple

from contract.methods.training.captions import Captions
from trainer.data.draws import draws


class _Parts(NamedTuple):
    """The tags that keep their places in front, those that do not, and those that keep them behind."""

    front: list[str]
    free: list[str]
    behind: list[str]


class Captioner(NamedTuple):
    """Says what each picture is called in each of its turns: an epoch has as many as the picture repeats.

    With `variants`, a picture has no more different captions than that, an empty one apart, one a turn and
    then from the first again: few enough to be encoded before the run. 0 is no limit.
    """

    seed: int
    variants: int = 0

    def at(self, text: str, rules: Captions, picture: str, turn: int) -> str:
        """The caption of the picture known as `picture`, whose file says `text`, in a turn counted from 0."""
        if draws(self.seed, "caption dropout", picture, turn).random() < rules.caption_dropout:
            return ""
        return self._variant(text, rules, picture, turn)

    def all(self, text: str, rules: Captions, picture: str, turns: int) -> list[str]:
        """Every caption that the picture may have in its first `turns`, each once."""
        count = (min(turns, self.variants) or turns) if rules.vary else 1
        found = {self._variant(text, rules, picture, turn): None for turn in range(count)}
        return list(found | {"": None} if rules.caption_dropout > 0 else found)

    def _variant(self, text: str, rules: Captions, picture: str, turn: int) -> str:
        number = turn % self.variants if self.variants else turn
        return varied(text, rules, draws(self.seed, "caption", picture, number))


def varied(text: str, rules: Captions, chance: Random) -> str:
    """The caption `text` as `chance` has it, not dropped.

    Where it has the keep separator twice, what stands behind the second keeps its place, too.
    """
    text = " ".join(line.strip() for line in text.splitlines()).strip()
    if rules.vary:
        text = _rearranged(text, rules, chance)
    elif rules.keep_separator:
        text = text.replace(rules.keep_separator, "")
    return rules.prefix + text + rules.suffix


def _rearranged(text: str, rules: Captions, chance: Random) -> str:
    front, free, behind = _parts(text, rules)
    if rules.shuffle:
        chance.shuffle(free)
    if rules.tag_dropout > 0:
        free = [tag for tag in free if chance.random() >= rules.tag_dropout]
    return f"{rules.separator.strip()} ".join(front + free + behind).strip()


def _parts(text: str, rules: Captions) -> _Parts:
    mark = rules.keep_separator
    if mark and mark in text:
        front, _, rest = text.partition(mark)
        free, _, behind = rest.partition(mark)
        return _Parts(_tags(front, rules), _tags(free, rules), _tags(behind, rules))
    tags = _tags(text, rules)
    return _Parts(tags[: rules.keep_tokens], tags[rules.keep_tokens :], [])


def _tags(text: str, rules: Captions) -> list[str]:
    return [tag for part in text.split(rules.separator) if (tag := part.strip())]
