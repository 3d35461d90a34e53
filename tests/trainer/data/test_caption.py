"""A caption changes as its rules say, and the same draw always gives the same caption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.methods.training.captions import Captions
from trainer.data.caption import Captioner

TEXT = "sks dog, grass, red ball, sky, tree"
TAGS = TEXT.split(", ")


def at(rules: Captions, turn: int = 0, text: str = TEXT, variants: int = 0) -> str:
    return Captioner(1, variants).at(text, rules, "picture", turn)


def test_without_rules_a_caption_stays_as_it_is_and_lines_are_joined() -> None:
    assert at(Captions()) == TEXT
    assert at(Captions(), text="a dog\n  on grass\r\n") == "a dog on grass"


def test_shuffled_tags_are_the_same_tags_and_the_first_keep_their_places() -> None:
    rules = Captions(shuffle=True, keep_tokens=2)
    seen = {at(rules, number) for number in range(40)}
    assert len(seen) == 6
    for text in seen:
        tags = text.split(", ")
        assert tags[:2] == TAGS[:2]
        assert sorted(tags) == sorted(TAGS)


def test_the_separator_keeps_what_stands_before_it_and_behind_a_second_one() -> None:
    rules = Captions(shuffle=True, keep_tokens=1, keep_separator="|||")
    text = "sks, dog ||| grass, ball, sky, tree ||| best, quality"
    seen = {at(rules, number, text=text) for number in range(20)}
    assert len(seen) > 5
    for each in seen:
        tags = each.split(", ")
        assert tags[:2] == ["sks", "dog"]
        assert tags[-2:] == ["best", "quality"]
        assert sorted(tags[2:-2]) == ["ball", "grass", "sky", "tree"]


def test_tags_are_left_out_with_their_chance_and_kept_ones_never() -> None:
    rules = Captions(tag_dropout=0.25, keep_tokens=1)
    texts = [at(rules, number, text="a, b, c, d").split(", ") for number in range(1000)]
    assert all(tags[0] == "a" for tags in texts)
    assert 0.7 < sum(len(tags) - 1 for tags in texts) / 3000 < 0.8
    assert at(Captions(tag_dropout=1.0, keep_tokens=1), text="a, b") == "a"


def test_whole_captions_are_dropped_with_their_chance_prefix_and_all() -> None:
    rules = Captions(caption_dropout=0.1, shuffle=True, prefix="sks, ")
    texts = [at(rules, number) for number in range(2000)]
    assert 150 < texts.count("") < 250


def test_dropout_does_not_change_the_order_of_what_is_kept() -> None:
    for number in range(50):
        kept = at(Captions(shuffle=True, caption_dropout=0.5), number)
        assert kept in ("", at(Captions(shuffle=True), number))


def test_prefix_and_suffix_stay_around_a_shuffled_caption() -> None:
    rules = Captions(prefix="photo of ", suffix=", outside", shuffle=True)
    for number in range(10):
        text = at(rules, number)
        assert text.startswith("photo of ") and text.endswith(", outside")


def all_of(text: str, rules: Captions, *, turns: int, variants: int = 0) -> list[str]:
    return Captioner(1, variants).all(text, rules, "picture", turns)


def test_captions_that_do_not_vary_can_be_listed() -> None:
    assert all_of("a, b", Captions(caption_dropout=0.1), turns=9) == ["a, b", ""]
    assert all_of("a |||b", Captions(), turns=9) == ["a b"]


@pytest.mark.parametrize("variants", [0, 1, 3, 50])
def test_every_caption_of_a_run_is_among_those_listed_before_it(variants: int) -> None:
    rules = Captions(shuffle=True, tag_dropout=0.1, caption_dropout=0.2)
    seen = {at(rules, turn, variants=variants) for turn in range(12)}
    listed = all_of(TEXT, rules, turns=12, variants=variants)
    assert seen <= set(listed)
    assert len(set(listed)) == len(listed) <= (min(variants, 12) or 12) + 1
    assert len(seen) > 2 or variants == 1


def test_variants_come_from_the_first_again_and_drops_do_not() -> None:
    rules = Captions(shuffle=True, caption_dropout=0.3)
    texts = [at(rules, turn, variants=4) for turn in range(40)]
    for turn, text in enumerate(texts):
        assert text in ("", at(Captions(shuffle=True), turn % 4))
    dropped = [text == "" for text in texts]
    assert dropped[:4] * 10 != dropped


@given(st.text(), st.booleans(), st.integers(0, 5), st.floats(0, 1), st.integers(0, 1000))
def test_the_same_draw_gives_the_same_caption(
    text: str, shuffle: bool, keep: int, dropout: float, number: int
) -> None:
    rules = Captions(shuffle=shuffle, keep_tokens=keep, tag_dropout=dropout, caption_dropout=dropout)
    assert at(rules, number, text=text) == at(rules, number, text=text)
