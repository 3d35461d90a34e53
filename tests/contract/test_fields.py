"""What a settings Struct says of its fields."""

from typing import Annotated, Literal

import msgspec
import pytest

from contract.fields import FieldSpec, arms, describe, field, nested
from contract.methods.merge import Bake, CheckpointMerge, Extract, LoraMerge, MergeSettings, Recipe
from contract.methods.tag import TaggerModel, TagSettings
from contract.reference import SETTINGS, values


class Oven(msgspec.Struct, kw_only=True):
    heat: Annotated[int, field("Heat", "How hot.", unit="°C", detail="advanced", gt=0, le=300)]
    mode: Annotated[Literal["top", "both"], field("Mode", "Which side.")] = "both"
    racks: Annotated[list[str], field("Racks", "What is in it.", detail="expert")] = []
    timer: Annotated[float | None, field("Timer", "How long.", unit="s", ge=0)] = None
    plain: bool = False


class Knife(msgspec.Struct, kw_only=True):
    edge: Annotated[str, field("Edge", "How it cuts.", schema={"enum": ["plain", "saw"]})] = "plain"
    steel: str = ""


class Kitchen(msgspec.Struct, kw_only=True):
    ovens: list[Oven]
    best: Annotated[Oven, field("Best", "The best one.")] | None = None
    named: dict[str, Oven | Knife] = {}
    size: float = 1.0


SPECS = {spec.name: spec for spec in describe(Oven)}


def test_fields_come_in_their_order() -> None:
    assert list(SPECS) == ["heat", "mode", "racks", "timer", "plain"]


def test_a_field_says_everything_of_itself() -> None:
    assert SPECS["heat"] == FieldSpec(
        name="heat",
        annotation=int,
        required=True,
        default=None,
        title="Heat",
        text="How hot.",
        unit="°C",
        detail="advanced",
        choices=(),
        limits={"gt": 0, "le": 300},
    )


def test_choices_defaults_and_lists() -> None:
    assert SPECS["mode"].choices == ("top", "both")
    assert (SPECS["mode"].required, SPECS["mode"].default, SPECS["mode"].detail) == (False, "both", "basic")
    assert (SPECS["racks"].annotation, SPECS["racks"].default) == (list[str], [])


def test_a_default_list_is_nobody_elses() -> None:
    describe(Oven)[2].default.append("x")
    assert describe(Oven)[2].default == []


def test_a_field_may_be_left_empty() -> None:
    assert SPECS["timer"].optional
    assert not SPECS["heat"].optional
    assert SPECS["timer"].limits == {"ge": 0}


def test_a_field_that_says_nothing_has_its_name_for_a_title() -> None:
    assert (SPECS["plain"].title, SPECS["plain"].text, SPECS["plain"].annotation) == ("plain", "", bool)


def test_what_stands_inside_of_an_optional_is_found() -> None:
    repo, revision, path = describe(TaggerModel)
    assert [spec.title for spec in (repo, revision, path)] == ["Repository", "Revision", "Folder"]
    assert [spec.detail for spec in (repo, revision, path)] == ["basic", "expert", "basic"]


def test_settings_are_one_struct_or_the_arms_of_a_union() -> None:
    assert arms(Oven) == (Oven,)
    assert arms(MergeSettings) == (LoraMerge, CheckpointMerge, Bake, Extract, Recipe)


def test_structs_inside_of_a_field_are_found() -> None:
    inside = {spec.name: nested(spec.annotation) for spec in describe(Kitchen)}
    assert inside == {"ovens": (Oven,), "best": (Oven,), "named": (Oven, Knife), "size": ()}


def test_what_the_schema_says_of_a_text_are_choices() -> None:
    assert {spec.name: spec.choices for spec in describe(Knife)} == {"edge": ("plain", "saw"), "steel": ()}


def _all_settings() -> list[type[msgspec.Struct]]:
    """With those inside of others."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting = [struct for settings in SETTINGS.values() for struct in arms(settings)]
    while waiting:
        struct = waiting.pop()
        if struct not in found:
            found[struct] = None
            waiting += [each for spec in describe(struct) for each in nested(spec.annotation)]
    return list(found)


@pytest.mark.parametrize("struct", _all_settings())
def test_every_setting_has_a_title_a_help_text_and_an_honest_default(struct: type[msgspec.Struct]) -> None:
    for spec in describe(struct):
        assert spec.title[:1].isupper() and not spec.title.endswith(".")
        assert spec.text.endswith(".")
        assert not spec.choices or spec.required or spec.default in (*spec.choices, *_nothing(spec))


def _nothing(spec: FieldSpec) -> tuple[None, ...]:
    """What a choice that may be left empty may be besides its choices."""
    return (None,) if spec.optional else ()


def test_ranges_are_said_in_words() -> None:
    assert values(SPECS["heat"]) == "int, above 0, to 300 (°C)"
    assert values(SPECS["mode"]) == "`top`, `both`"
    assert values(SPECS["racks"]) == "list[str]"
    assert values(SPECS["timer"]) == "float, from 0 (s)"


def test_types_are_said_in_words() -> None:
    said = {spec.name: values(spec) for spec in describe(Kitchen)}
    assert said == {
        "ovens": "list[Oven]",
        "best": "Oven",
        "named": "dict[str, Oven or Knife]",
        "size": "float",
    }


def test_defaults_of_tagging_are_what_the_house_decided() -> None:
    assert {spec.name: spec.default for spec in describe(TagSettings) if not spec.required} == {
        "general_threshold": 0.35,
        "character_threshold": 0.85,
        "ratings": "none",
        "exclude": [],
        "replace": {},
        "always_first": [],
        "character_tags_first": False,
        "expand_character_tags": False,
        "remove_underscores": True,
        "escape_brackets": False,
        "order": "confidence",
        "separator": ", ",
        "batch_size": 8,
        "score_floor": 0.05,
        "decode": "fast",
    }
