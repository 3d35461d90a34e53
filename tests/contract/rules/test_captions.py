"""Captions from scores, setting by setting; captions onto captions."""

from typing import Any

import pytest

from contract.methods.tag import Category, ScoredTag, TaggerModel, TagSettings
from contract.rules.captions import Existing, assemble, caption_tags, combine, lowest_score, same_tag, split

RATING = {"general": 0.2, "sensitive": 0.7, "questionable": 0.1}


def _tag(name: str, score: float, index: int, category: Category = "general") -> ScoredTag:
    return ScoredTag(name=name, category=category, score=score, index=index)


TAGS = [
    _tag("1girl", 0.99, 4),
    _tag("hatsune_miku_(vocaloid)", 0.95, 9, "character"),
    _tag("long_hair", 0.9, 1),
    _tag("^_^", 0.8, 7),
    _tag("smile_(face)", 0.5, 2),
    _tag("kagamine_rin", 0.5, 8, "character"),
    _tag("blue_sky", 0.34, 3),
]


def _settings(**chosen: Any) -> TagSettings:
    return TagSettings(model=TaggerModel(path="/m"), **chosen)


def _caption(tags: list[ScoredTag] = TAGS, **chosen: Any) -> list[str]:
    return caption_tags(RATING, tags, _settings(**chosen))


PLAIN = ["1girl", "hatsune miku (vocaloid)", "long hair", "^_^", "smile (face)"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, PLAIN),
        # Thresholds: a score that equals one is in.
        ({"general_threshold": 0.34}, [*PLAIN, "blue sky"]),
        ({"general_threshold": 0.9}, PLAIN[:3]),
        ({"general_threshold": 1}, ["hatsune miku (vocaloid)"]),
        ({"character_threshold": 0.5}, [*PLAIN, "kagamine rin"]),
        ({"character_threshold": 0.96}, ["1girl", "long hair", "^_^", "smile (face)"]),
        # The rating.
        ({"ratings": "first"}, ["sensitive", *PLAIN]),
        ({"ratings": "last"}, [*PLAIN, "sensitive"]),
        # Exclusion: blanks, underscores, escapes and case are alike.
        ({"exclude": ["long hair", "1GIRL"]}, ["hatsune miku (vocaloid)", "^_^", "smile (face)"]),
        ({"exclude": ["long_hair", r"smile \(face\)", " ^_^ "]}, PLAIN[:2]),
        ({"exclude": ["hair", ""]}, PLAIN),
        # Replacement: as given, and dropped where empty; what is excluded is not replaced.
        ({"replace": {"long hair": "Very_Long (hair)"}}, [*PLAIN[:2], "Very_Long (hair)", *PLAIN[3:]]),
        ({"replace": {"long_hair": "", "1girl": ""}}, ["hatsune miku (vocaloid)", "^_^", "smile (face)"]),
        (
            {"replace": {"1girl": "a (b)"}, "escape_brackets": True, "exclude": ["^_^", "smile (face)"]},
            ["a (b)", r"hatsune miku \(vocaloid\)", "long hair"],
        ),
        ({"replace": {"1girl": "woman"}, "exclude": ["1girl"]}, PLAIN[1:]),
        (
            {"replace": {"hatsune miku (vocaloid)": "miku"}, "expand_character_tags": True},
            ["1girl", "miku", *PLAIN[2:]],
        ),
        # A replacement that is there already does not come twice.
        (
            {"replace": {"1girl": "long_hair"}},
            ["long_hair", "hatsune miku (vocaloid)", "^_^", "smile (face)"],
        ),
        # What opens every caption keeps its order and its spelling, and takes the tag's place.
        ({"always_first": ["zeta style", "alpha"]}, ["zeta style", "alpha", *PLAIN]),
        ({"always_first": ["Long_Hair"]}, ["Long_Hair", "1girl", "hatsune miku (vocaloid)", *PLAIN[3:]]),
        ({"always_first": ["a", "A", "", "b"]}, ["a", "b", *PLAIN]),
        ({"always_first": ["me"], "ratings": "first"}, ["me", "sensitive", *PLAIN]),
        # Character tags.
        ({"character_tags_first": True}, ["hatsune miku (vocaloid)", "1girl", *PLAIN[2:]]),
        (
            {"character_tags_first": True, "character_threshold": 0.1, "order": "model"},
            ["kagamine rin", "hatsune miku (vocaloid)", "long hair", "smile (face)", "1girl", "^_^"],
        ),
        ({"expand_character_tags": True}, ["1girl", "hatsune miku", "vocaloid", *PLAIN[2:]]),
        ({"expand_character_tags": True, "exclude": ["hatsune_miku_(vocaloid)"]}, ["1girl", *PLAIN[2:]]),
        # Spelling.
        (
            {"remove_underscores": False},
            ["1girl", "hatsune_miku_(vocaloid)", "long_hair", "^_^", "smile_(face)"],
        ),
        (
            {"escape_brackets": True},
            ["1girl", r"hatsune miku \(vocaloid\)", "long hair", "^_^", r"smile \(face\)"],
        ),
        (
            {"escape_brackets": True, "expand_character_tags": True, "general_threshold": 1},
            ["hatsune miku", "vocaloid"],
        ),
        # Order.
        ({"order": "model"}, ["long hair", "smile (face)", "1girl", "^_^", "hatsune miku (vocaloid)"]),
    ],
)
def test_a_setting_does_what_it_says(chosen: dict[str, Any], expected: list[str]) -> None:
    assert _caption(**chosen) == expected


def test_tags_of_equal_score_stand_as_in_the_model() -> None:
    tags = [_tag("c", 0.5, 3), _tag("a", 0.5, 1), _tag("b", 0.9, 2)]
    assert _caption(tags) == ["b", "a", "c"]
    assert _caption(tags, order="model") == ["a", "b", "c"]


def test_the_order_in_which_tags_are_handed_over_is_of_no_account() -> None:
    for chosen in ({}, {"order": "model"}, {"character_tags_first": True}):
        assert _caption(TAGS[::-1], **chosen) == _caption(TAGS, **chosen)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("^_^", "^_^"),
        ("o_o", "o_o"),
        ("_", "_"),
        ("a_b", "a_b"),
        ("a_bc", "a bc"),
        (">_<;;", "> <;;"),
        ("a__b", "a  b"),
    ],
)
def test_short_tags_keep_their_underscores(name: str, written: str) -> None:
    assert _caption([_tag(name, 0.9, 0)]) == [written]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("name_(series)", ["name", "series"]),
        ("a_(b)_(c)", ["a (b)", "c"]),
        ("first_last_(the_show)", ["first last", "the show"]),
        ("name", ["name"]),
        ("_(series)", [" (series)"]),
        ("name_(series", ["name (series"]),
        ("name(series)", ["name(series)"]),
    ],
)
def test_only_the_last_bracket_of_a_character_is_its_series(name: str, parts: list[str]) -> None:
    assert _caption([_tag(name, 0.9, 0, "character")], expand_character_tags=True) == parts


def test_general_tags_are_never_expanded() -> None:
    assert _caption([_tag("smile_(face)", 0.9, 0)], expand_character_tags=True) == ["smile (face)"]


def test_a_series_shared_by_two_characters_stands_once() -> None:
    tags = [_tag("a_name_(show)", 0.9, 0, "character"), _tag("b_name_(show)", 0.88, 1, "character")]
    assert _caption(tags, expand_character_tags=True) == ["a name", "show", "b name"]


def test_a_model_without_ratings_writes_none() -> None:
    assert caption_tags({}, TAGS[:1], _settings(ratings="first")) == ["1girl"]


def test_the_rating_is_written_as_tags_are() -> None:
    rating = {"very_safe_(sfw)": 1.0}
    assert caption_tags(rating, [], _settings(ratings="last", escape_brackets=True)) == [r"very safe \(sfw\)"]


def test_a_caption_is_the_texts_with_the_separator_between() -> None:
    assert (
        assemble(RATING, TAGS[:3], _settings(separator=" | "))
        == "1girl | hatsune miku (vocaloid) | long hair"
    )
    assert assemble(RATING, [], _settings()) == ""


def test_nothing_is_assembled_from_what_was_not_kept() -> None:
    assert lowest_score(_settings()) == 0.05
    assert lowest_score(_settings(score_floor=0.5)) == 0.35
    assert lowest_score(_settings(score_floor=0.5, character_threshold=0.1)) == 0.1


@pytest.mark.parametrize(
    ("one", "other"),
    [("long_hair", "Long Hair"), (r"a \(b\)", "a_(b)"), (" solo ", "solo"), ("STRASSE", "straße")],
)
def test_two_spellings_of_one_tag(one: str, other: str) -> None:
    assert same_tag(one) == same_tag(other)


@pytest.mark.parametrize(
    ("caption", "separator", "tags"),
    [
        ("a, b,c ,, d", ", ", ["a", "b", "c", "d"]),
        ("", ", ", []),
        (" , ", ", ", []),
        ("a b  c", " ", ["a", "b", "c"]),
        ("a\nb\n", "\n", ["a", "b"]),
        ("a, b | c", " | ", ["a, b", "c"]),
        ("two words", ", ", ["two words"]),
    ],
)
def test_a_caption_is_split_as_people_type(caption: str, separator: str, tags: list[str]) -> None:
    assert split(caption, separator) == tags


@pytest.mark.parametrize(
    ("existing", "mode", "expected"),
    [
        (None, "skip", "b, c"),
        (None, "append", "b, c"),
        (None, "overwrite", "b, c"),
        ("a, b", "skip", None),
        ("", "skip", None),
        ("a, b", "overwrite", "b, c"),
        ("a, b", "append", "a, b, c"),
        ("", "append", "b, c"),
        ("my_style,B ,a", "append", "my_style, B, a, c"),
        ("a, a", "append", "a, b, c"),
    ],
)
def test_a_caption_onto_what_is_there(existing: str | None, mode: Existing, expected: str | None) -> None:
    assert combine(existing, "b, c", mode, ", ") == expected


def test_appending_twice_changes_nothing() -> None:
    once = combine("x, long_hair", "long hair, y", "append", ", ")
    assert once == "x, long_hair, y"
    assert combine(once, "long hair, y", "append", ", ") == once
