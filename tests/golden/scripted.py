"""Plays the kernel's part of a transcript: `python -m tests.golden.scripted SCENARIO VARIABLES`.

It answers whoever sends what the transcript says a host sends, under the ids that this host has given. What
stands for something else gets a value that fits. Notifications of the host are read over.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from tests.golden.replay import read
from tests.golden.transcript import Message, Step, render

_VALUES: Final = {"$int": 7, "$float": 0.5, "$string": "text"}
_STATE: Final = {"status": "ready", "devices": [], "engines": {}}
#: What stands for `$any`, by the member that it is.
_ANYTHING: Final = {"params": _STATE, "state": _STATE, "warnings": [], "timings": {}}


def concrete(value: Any, member: str = "") -> Any:
    """`value` with a fitting value in the place of every placeholder."""
    if isinstance(value, dict):
        return {name: concrete(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [concrete(item, member) for item in value]
    if value == "$any":
        return _ANYTHING.get(member)
    if isinstance(value, str) and value.startswith("$id:"):
        return value.removeprefix("$id:")
    return _VALUES.get(value, value) if isinstance(value, str) else value


def play(steps: list[Step], requests: Iterator[Message]) -> Iterator[Message]:
    """What the kernel says. Raises ValueError when a request comes that the transcript does not have."""
    ids: dict[Any, Any] = {}
    for step in steps:
        if step.action == ">" and "id" in step.value:
            request = next(requests)
            if request["method"] != step.value["method"]:
                raise ValueError(f"{request['method']} instead of {step.value['method']}")
            ids[step.value["id"]] = request["id"]
        elif step.action == "<":
            message = concrete(step.value)
            yield {**message, "id": ids[message["id"]]} if "id" in message else message


def _requests() -> Iterator[Message]:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            yield message


def main(name: str, variables: str) -> None:
    """Play one scenario, then read to the end."""
    filled = [Step(step.action, render(step.value, json.loads(variables))) for step in read(name)]
    for message in play(filled, _requests()):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
