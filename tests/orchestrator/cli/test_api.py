"""Errors that travelled as problems, and where commands find the API."""

import msgspec
import pytest

from contract.errors import LorakeetError, NotReady, StudioError, leaves
from orchestrator.api.problems import problem_response
from orchestrator.cli.api import error_of
from orchestrator.cli.exits import exit_for


@pytest.mark.parametrize("leaf", list(leaves()), ids=lambda leaf: leaf.kind)
def test_an_error_is_the_same_after_it_was_a_problem(leaf: type[LorakeetError]) -> None:
    before: LorakeetError = leaf.__new__(leaf)
    LorakeetError.__init__(before, "It went wrong.", where="here", hint="Do this.")
    status, _, body = problem_response(before, request_id="r1", instance="/api/v1/jobs")
    after = error_of(body, status)
    assert type(after) is leaf
    assert (after.message, after.where, after.hint) == ("It went wrong.", "here", "Do this.")
    assert (after.code, after.kind, after.retryable) == (leaf.code, leaf.kind, leaf.retryable)
    assert exit_for(after) == exit_for(before)


def test_a_problem_of_a_newer_studio_is_one_of_the_studio() -> None:
    body = msgspec.json.encode({"code": "newer", "detail": "Words.", "more": 1})
    error = error_of(body, 418)
    assert type(error) is StudioError
    assert (error.kind, error.message) == ("newer", "Words.")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"\xff"])
def test_an_answer_that_is_no_problem_is_said_with_its_status(body: bytes) -> None:
    error = error_of(body, 502)
    assert isinstance(error, NotReady) and "502" in error.message
