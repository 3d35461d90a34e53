"""Another order of the waiting jobs. Pure.

Jobs of higher priority come first whatever anybody wants, so a job that is moved among them takes on the
priority that its new place needs.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from contract.errors import StateConflict
from contract.validation import Problem, invalid


class Place(NamedTuple):
    """A waiting job in the queue."""

    id: str
    priority: int


def in_order(waiting: Sequence[Place], wanted: Sequence[str]) -> list[Place]:
    """`waiting` with the jobs `wanted` among each other in that order, on the places that they have now.

    Raises InvalidParams for a job that is named twice, and StateConflict for one that does not wait.
    """
    named = set(wanted)
    if len(named) != len(wanted):
        raise invalid([Problem("$.job_ids", "a job is named more than once")])
    for id in wanted:
        _index(waiting, id)
    rest = iter(wanted)
    return [Place(next(rest), place.priority) if place.id in named else place for place in waiting]


def moved(
    waiting: Sequence[Place], id: str, where: Literal["before", "after", "first", "last"], beside: str = ""
) -> list[Place]:
    """`waiting` with one job directly before or after `beside`, or first, or last.

    Raises StateConflict for a job that does not wait.
    """
    own = waiting[_index(waiting, id)]
    others = [place for place in waiting if place.id != id]
    if beside == id:
        return list(waiting)
    match where:
        case "first":
            index = 0
        case "last":
            index = len(others)
        case _:
            index = _index(others, beside) + (where == "after")
    priority = own.priority
    if index < len(others):
        priority = max(priority, others[index].priority)
    if index > 0:
        priority = min(priority, others[index - 1].priority)
    return [*others[:index], Place(id, priority), *others[index:]]


def _index(waiting: Sequence[Place], id: str) -> int:
    index = next((index for index, each in enumerate(waiting) if each.id == id), None)
    if index is None:
        raise StateConflict(f"The job {id} does not wait in the queue.", where=id)
    return index
