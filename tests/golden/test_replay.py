"""Every golden transcript, replayed over real pipes against the real kernel."""

import sys

import pytest

from contract.methods.registry import METHODS
from tests.golden.replay import names, read, replay
from tests.golden.transcript import Step
from tests.kernel_process import KernelProcess


@pytest.mark.parametrize("name", names())
def test_the_kernel_says_what_the_transcript_says(name: str, variables: dict[str, str]) -> None:
    if name == "roots_symlink" and sys.platform == "win32":
        pytest.skip("making a symbolic link needs a privilege on Windows")
    with KernelProcess() as kernel:
        assert replay(read(name), kernel, variables) == []


def test_a_transcript_that_says_something_else_does_not_match(variables: dict[str, str]) -> None:
    steps = read("handshake")
    answer = steps[1].value["result"]
    answer["level"] = 2
    answer["limits"]["max_bananas"] = 5
    del answer["capabilities"]["replay"]
    with KernelProcess() as kernel:
        assert replay(steps, kernel, variables) == [
            "line 2: [0].result.level: 1 instead of 2",
            "line 2: [0].result.capabilities.replay: not expected: true",
            "line 2: [0].result.limits.max_bananas: missing",
        ]


def test_nothing_may_be_left_over(variables: dict[str, str]) -> None:
    steps = read("handshake")
    steps.insert(3, Step(">", {"jsonrpc": "2.0", "id": 99, "method": "ping"}))
    with KernelProcess() as kernel:
        (problem,) = replay(steps, kernel, variables)
    assert problem.startswith("nobody expects {'jsonrpc': '2.0', 'id': 99")


def test_a_notification_of_a_job_that_is_not_in_the_transcript_is_left_over(
    variables: dict[str, str],
) -> None:
    steps = [
        step for step in read("model_unload") if step.action != "<" or step.value.get("method") != "partial"
    ]
    with KernelProcess() as kernel:
        problems = replay(steps, kernel, variables)
    assert any("1 items instead of 0" in problem for problem in problems)


def test_every_method_stands_in_a_transcript() -> None:
    said = {step.value.get("method") for name in names() for step in read(name) if step.action == ">"}
    # What `probe` finds is a matter of the machine: tests/kernel has it.
    assert METHODS.keys() - said == {"probe"}
