"""Another order of what waits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import InvalidParams, StateConflict
from orchestrator.jobs.order import Place, in_order, moved

_WAITING = [Place("a", 5), Place("b", 0), Place("c", 0), Place("d", -1)]


def _ids(places: list[Place]) -> str:
    return "".join(place.id for place in places)


@pytest.mark.parametrize(
    ("id", "where", "beside", "wanted", "priority"),
    [
        ("d", "first", "", "dabc", 5),
        ("a", "last", "", "bcda", -1),
        ("c", "before", "b", "acbd", 0),
        ("b", "after", "c", "acbd", 0),
        ("d", "before", "c", "abdc", 0),
        ("a", "after", "b", "bacd", 0),
        ("c", "before", "c", "abcd", 0),
        ("a", "first", "", "abcd", 5),
    ],
)
def test_a_moved_job_takes_on_the_priority_that_its_place_needs(
    id: str, where: str, beside: str, wanted: str, priority: int
) -> None:
    places = moved(_WAITING, id, where, beside)  # type: ignore[arg-type]
    assert _ids(places) == wanted
    assert dict(places)[id] == priority
    assert all(dict(places)[each.id] == each.priority for each in _WAITING if each.id != id)


def test_named_jobs_change_places_among_each_other() -> None:
    assert _ids(in_order(_WAITING, ["d", "c", "a"])) == "dbca"
    assert [place.priority for place in in_order(_WAITING, ["d", "c", "a"])] == [5, 0, 0, -1]


def test_what_does_not_wait_cannot_be_moved() -> None:
    with pytest.raises(StateConflict):
        moved(_WAITING, "x", "first")
    with pytest.raises(StateConflict):
        moved(_WAITING, "a", "before", "x")
    with pytest.raises(StateConflict):
        in_order(_WAITING, ["a", "x"])
    with pytest.raises(InvalidParams):
        in_order(_WAITING, ["a", "a"])


_QUEUE = st.lists(st.integers(-3, 3), min_size=1, max_size=8).map(
    lambda priorities: [
        Place(str(number), priority) for number, priority in enumerate(sorted(priorities, reverse=True))
    ]
)


@settings(deadline=None)
@given(_QUEUE, st.data())
def test_the_new_order_is_one_that_priorities_allow(waiting: list[Place], data: st.DataObject) -> None:
    ids = st.sampled_from([place.id for place in waiting])
    where = data.draw(st.sampled_from(["before", "after", "first", "last"]))
    places = moved(waiting, data.draw(ids), where, data.draw(ids))  # type: ignore[arg-type]
    assert {place.id for place in places} == {place.id for place in waiting}
    assert [place.priority for place in places] == sorted((p.priority for p in places), reverse=True)
    wanted = data.draw(st.lists(ids, unique=True))
    named = in_order(waiting, wanted)
    assert [place.id for place in named if place.id in wanted] == wanted
    assert [place.priority for place in named] == [place.priority for place in waiting]
