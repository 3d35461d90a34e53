"""The rules of the transcripts: what matches what."""

from typing import Any

import pytest

from tests.golden.record import generalized
from tests.golden.replay import names, read
from tests.golden.transcript import Step, differences, dump, joined, parse, render


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("$int", 3),
        ("$float", 0.5),
        ("$float", 3),
        ("$string", ""),
        ("$any", None),
        ("$.params.job_id", "$.params.job_id"),
        ({"a": ["$int", None, True]}, {"a": [1, None, True]}),
    ],
)
def test_matches(expected: Any, actual: Any) -> None:
    assert list(differences(expected, actual, {})) == []


@pytest.mark.parametrize(
    ("expected", "actual", "where"),
    [
        ("$int", 0.5, "$"),
        ("$int", True, "$"),
        ("$float", "0.5", "$"),
        ("$float", False, "$"),
        ("$string", None, "$"),
        ("$int", "$int", "$"),
        (1, True, "$"),
        (1, 1.0, "$"),
        (None, 0, "$"),
        ({}, [], "$"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "$.a.b"),
        ({"a": 1}, {}, "$.a"),
        ({}, {"a": 1}, "$.a"),
        ([1], [1, 2], "$"),
        ([1, 2], [1, 3], "$[1]"),
    ],
)
def test_does_not_match(expected: Any, actual: Any, where: str) -> None:
    (difference,) = differences(expected, actual, {})
    assert difference.startswith(f"{where}: ")


def test_an_id_is_bound_where_it_is_first_seen() -> None:
    bound: dict[str, str] = {}
    assert list(differences(["$id:a", "$id:b", "$id:a"], ["x", "y", "x"], bound)) == []
    assert list(differences("$id:a", "y", bound)) == ['$: "y" is no $id:a']


def test_unexpected_members_are_ignored_where_asked() -> None:
    assert list(differences({"a": {}}, {"a": {"b": 1}, "c": 2}, {}, exact=False)) == []


def test_names_are_filled_in_everywhere_and_unknown_ones_are_refused() -> None:
    assert render({"a": ["${x}/b ${x}", 1]}, {"x": "/y"}) == {"a": ["/y/b /y", 1]}
    with pytest.raises(KeyError):
        render("${z}", {"x": "/y"})


def test_neighbouring_partials_of_a_job_are_joined() -> None:
    messages = [
        {"method": "partial", "params": {"seq": 1, "items": [1], "failed": []}},
        {"method": "partial", "params": {"seq": 2, "items": [], "failed": [2]}},
        {"method": "artifact", "params": {"seq": 3}},
        {"method": "partial", "params": {"seq": 4, "items": [3], "failed": []}},
    ]
    assert joined(messages) == [
        {"method": "partial", "params": {"seq": 2, "items": [1], "failed": [2]}},
        *messages[2:],
    ]


@pytest.mark.parametrize("name", names())
def test_a_committed_transcript_is_written_as_the_recorder_writes_it(name: str) -> None:
    steps = read(name)
    assert parse(dump(steps)) == steps
    assert generalized([step.value for step in steps if step.action == "<"], {}) == [
        step.value for step in steps if step.action == "<"
    ]


@pytest.mark.parametrize(
    "text", ["", '{"<": {}}', '{"x": 1}\n{"exit": 0}', '{"<": {}, ">": {}}\n{"exit": 0}', "[]"]
)
def test_a_file_that_is_no_transcript_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1|exit line"):
        parse(text)


def test_what_differs_from_run_to_run_becomes_a_placeholder() -> None:
    said = {
        "pid": 7,
        "state": "running",
        "timings": {"a_s": 0.1},
        "where": "/t/x/y",
        "hint": "trace " + "0" * 12,
    }
    assert generalized(said, {"images": "/t/x", "tmp": "/t"}) == {
        "pid": "$int",
        "state": "running",
        "timings": {"a_s": "$float"},
        "where": "${images}/y",
        "hint": "$string",
    }
    assert Step("<", generalized({"state": None}, {})) == Step("<", {"state": "$any"})
