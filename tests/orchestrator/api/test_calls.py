"""What a handler learns of its request beside the body."""

from typing import cast

import pytest
from starlette.requests import Request

from orchestrator.api.calls import Call
from orchestrator.studio import Studio
from tests.orchestrator.api.in_process import scope_of


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ('WAIT="5"', 5),
        ("wait=100", 30),
        ("wait", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=\xb2", 0),
        ("", 0),
    ],
)
def test_a_client_waits_as_long_as_it_says_and_thirty_seconds_at_most(prefer: str, seconds: float) -> None:
    request = Request(scope_of(headers=[("Prefer", prefer)]))
    assert Call(request, cast(Studio, None)).wait_s() == seconds
