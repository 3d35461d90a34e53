"""The table of states."""

from pathlib import Path

from orchestrator.jobs.states import (
    ALIVE,
    AUTOMATIC,
    NEXT_ATTEMPT,
    REASONS,
    STATES,
    TABLE,
    TERMINAL,
    is_legal,
)


def test_every_state_can_be_reached_and_every_reason_is_used() -> None:
    assert {change.after for change in TABLE} == set(STATES)
    assert {change.reason for change in TABLE} == set(REASONS)


def test_what_has_ended_changes_only_by_another_attempt() -> None:
    for change in TABLE:
        if TERMINAL.intersection(change.before):
            assert change.after == "queued" and change.reason in NEXT_ATTEMPT


def test_what_has_succeeded_never_changes() -> None:
    assert not any("succeeded" in change.before for change in TABLE)


def test_only_what_is_alive_can_succeed_and_every_end_is_possible_from_there() -> None:
    for change in TABLE:
        if change.after == "succeeded":
            assert set(change.before) <= ALIVE
    for state in ALIVE:
        assert {change.after for change in TABLE if state in change.before} >= {"succeeded", "failed"}


def test_automatic_attempts_are_attempts() -> None:
    assert AUTOMATIC < NEXT_ATTEMPT


def test_nothing_else_is_legal() -> None:
    listed = {(before, change.after, change.reason) for change in TABLE for before in change.before}
    for before in (None, *STATES):
        for after in STATES:
            for reason in REASONS:
                assert is_legal(before, after, reason) == ((before, after, reason) in listed)


def test_every_change_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "jobs.md").read_text(encoding="utf-8")
    for change in TABLE:
        before = ", ".join("–" if state is None else f"`{state}`" for state in change.before)
        assert f"| {before} | `{change.after}` | `{change.reason}` | {change.meaning} |" in page
