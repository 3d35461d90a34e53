"""Everything that is wrong, at once, each with its place."""

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from contract.base import Params, Strict
from contract.errors import InvalidParams
from contract.validation import EXPECTED, MAX_PROBLEMS, Contradiction, Problem, decode, invalid


class Range(Strict, frozen=True, kw_only=True):
    low: int = 0
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise Contradiction(("low", "is above high"), ("high", "is below low"))


class Square(Strict, frozen=True, kw_only=True, tag="square", tag_field="type"):
    side: Annotated[int, Meta(ge=1)]


class Circle(Strict, frozen=True, kw_only=True, tag="circle", tag_field="type"):
    radius: float


class Whole(Params, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1)]
    mode: Literal["a", "b"] = "a"
    ranges: list[Range] = []
    by_name: dict[str, Range] = {}
    maybe: Range | None = None
    shape: Square | Circle | None = None
    number: Annotated[float, Meta(ge=0, le=1)] | None = None
    place: Annotated[str, Meta(pattern="^[1-9]$", extra={EXPECTED: "a digit"}), Meta(title="Place")] = "1"
    code: Annotated[str, Meta(pattern="^[a-z]$")] = "a"


def _problems(value: Any, wanted: Any = Whole, **options: Any) -> dict[str, str]:
    with pytest.raises(InvalidParams) as caught:
        decode(value, wanted, **options)
    problems = caught.value.details["problems"]
    found = {problem["where"]: problem["message"] for problem in problems}
    assert len(found) == len(problems)
    assert caught.value.where == problems[0]["where"]
    return found


def test_what_fits_is_decoded() -> None:
    value = {
        "name": "x",
        "ranges": [{"low": 1}],
        "shape": {"type": "circle", "radius": 2},
        "ext": {"mine": 1},
    }
    assert decode(value, Whole) == Whole(
        name="x", ranges=[Range(low=1)], shape=Circle(radius=2.0), ext={"mine": 1}
    )


def test_all_problems_are_named_in_one_go() -> None:
    value = {
        "name": "",
        "mode": "c",
        "ranges": [{"low": 5, "high": 4}, {}, {"low": "1", "hihg": 2}],
        "by_name": {"a b": {"low": None}, 'q"': 7},
        "maybe": {"top": 1},
        "number": 2,
        "nmae": "x",
    }
    assert list(_problems(value)) == [
        "$.name",
        "$.mode",
        "$.ranges[0].low",
        "$.ranges[0].high",
        "$.ranges[2].low",
        "$.ranges[2].hihg",
        '$.by_name["a b"].low',
        '$.by_name["q\\""]',
        "$.maybe.top",
        "$.number",
        "$.nmae",
    ]


def test_a_missing_field_is_required_and_a_strange_one_is_not_known() -> None:
    assert _problems({"nmae": 1}) == {"$.name": "is required", "$.nmae": "is not a known field"}


def test_strange_fields_are_named_in_the_order_in_which_they_came() -> None:
    names = [f"field_{letter}" for letter in "qwertyuiopasdfghjkl"]
    assert list(_problems({"name": "x", **dict.fromkeys(names, 1)})) == [f"$.{name}" for name in names]


def test_what_may_stand_there_instead_is_said() -> None:
    assert _problems({"name": "x", "mode": "c", "place": "0", "code": "A"}) == {
        "$.mode": "is none of a, b",
        "$.place": "expected a digit",
        "$.code": "expected `str` matching regex '^[a-z]$'",
    }


def test_a_contradiction_speaks_of_its_fields() -> None:
    assert _problems({"name": "x", "maybe": {"low": 3, "high": 2}}) == {
        "$.maybe.low": "is above high",
        "$.maybe.high": "is below low",
    }


def test_a_contradiction_is_not_looked_for_where_a_field_is_wrong_already() -> None:
    assert list(_problems({"low": 3, "high": "2"}, Range)) == ["$.high"]


def test_of_a_tagged_union_the_arm_that_was_meant_is_looked_into() -> None:
    assert list(_problems({"name": "x", "shape": {"type": "square", "side": 0, "radius": 1}})) == [
        "$.shape.side",
        "$.shape.radius",
    ]


def test_of_a_tagged_union_the_field_that_says_which_is_asked_for() -> None:
    assert _problems({"name": "x", "shape": {"type": "line"}}) == {
        "$.shape.type": "is none of square, circle"
    }
    assert _problems({"name": "x", "shape": {"side": 1}}) == {"$.shape.type": "is required"}
    assert _problems({"type": ["square"]}, Square | Circle) == {"$.type": "is none of square, circle"}


def test_a_name_that_cannot_be_one_is_a_problem_at_its_place() -> None:
    found = _problems({"a b": 1, "c": "x"}, dict[Annotated[str, Meta(pattern="^[a-z]+$")], int])
    assert list(found) == ['$["a b"]', '$["c"]']
    assert found['$["a b"]'].startswith("its name: ")


@pytest.mark.parametrize("value", [None, 5, "x", [], True])
def test_what_is_no_object_is_one_problem(value: Any) -> None:
    assert list(_problems(value, path="$.params")) == ["$.params"]


def test_paths_start_where_they_are_told_to() -> None:
    assert list(_problems({"name": "x", "ranges": [5]}, path="$.params")) == ["$.params.ranges[0]"]


def test_the_text_names_the_first_problem_and_counts_the_others() -> None:
    with pytest.raises(InvalidParams, match=r"^\$\.name: is required$"):
        decode({}, Whole)
    with pytest.raises(InvalidParams, match=r"^\$\.name: is required \(and 2 more\)$"):
        decode({"mode": 1, "x": 2}, Whole)


@pytest.mark.parametrize("count", [MAX_PROBLEMS - 1, MAX_PROBLEMS, MAX_PROBLEMS + 1, 50 * MAX_PROBLEMS])
def test_problems_beyond_a_hundred_are_not_counted(count: int) -> None:
    assert len(_problems({"name": "x", "ranges": [7] * count})) == min(count, MAX_PROBLEMS)


def test_a_hundred_thousand_items_are_looked_through_for_the_one_that_is_wrong() -> None:
    items: list[Any] = [{}] * 100_000
    items[77_777] = {"low": "x"}
    assert list(_problems({"name": "x", "ranges": items})) == ["$.ranges[77777].low"]


def test_an_error_can_be_made_of_problems_found_elsewhere() -> None:
    error = invalid([Problem("$.a", "is odd"), Problem("$.b", "is even")])
    assert (error.message, error.where) == ("$.a: is odd (and 1 more)", "$.a")
    assert error.details["problems"][1] == {"where": "$.b", "message": "is even"}
