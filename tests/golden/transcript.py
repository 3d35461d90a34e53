"""Transcripts as data: reading and writing them, filling in names, comparing with what was said. All pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

Message = dict[str, Any]

#: What a line may do; `README.md` says it in words.
ACTIONS: Final = frozenset((">", ">raw", ">fill", ">close", "<", "exit"))
#: Notifications that may be lost, and that a transcript only illustrates.
LOSSY: Final = frozenset(("progress", "log"))

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_BOUND = "$id:"


class Step(NamedTuple):
    """One line of a transcript."""

    action: str
    value: Any


def parse(text: str) -> list[Step]:
    """The steps of a transcript. Raises ValueError, naming the line."""
    steps = [_step(number, line) for number, line in enumerate(text.splitlines(), 1)]
    if not steps or steps[-1].action != "exit":
        raise ValueError("a transcript ends with an exit line")
    return steps


def _step(number: int, line: str) -> Step:
    content = json.loads(line)
    if not isinstance(content, dict) or len(content) != 1 or not content.keys() <= ACTIONS:
        raise ValueError(f"line {number}: not one of {sorted(ACTIONS)}")
    return Step(*next(iter(content.items())))


def dump(steps: list[Step]) -> str:
    """The text of a transcript; `parse` gives the same steps again."""
    return "".join(json.dumps({step.action: step.value}, ensure_ascii=False) + "\n" for step in steps)


def render(value: Any, variables: Mapping[str, str]) -> Any:
    """`value` with every `${name}` in its texts filled in. Raises KeyError for an unknown name."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: variables[found[1]], value)
    if isinstance(value, list):
        return [render(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: render(item, variables) for key, item in value.items()}
    return value


def differences(
    expected: Any, actual: Any, bound: dict[str, str], *, exact: bool = True, path: str = "$"
) -> Iterator[str]:
    """What of `actual` is not as `expected`. `bound` holds the values of `$id:NAME`, and gains new ones.

    Unless `exact`, objects may have members that were not expected.
    """
    if isinstance(expected, str) and (fits := _placeholder(expected, actual, bound)) is not None:
        if not fits:
            yield f"{path}: {_shown(actual)} is no {expected}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        yield from _members(expected, actual, bound, exact, path)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{path}: {len(actual)} items instead of {len(expected)}: {_shown(actual)}"
        for index, (wanted, found) in enumerate(zip(expected, actual, strict=False)):
            yield from differences(wanted, found, bound, exact=exact, path=f"{path}[{index}]")
    elif type(expected) is not type(actual) or expected != actual:
        yield f"{path}: {_shown(actual)} instead of {_shown(expected)}"


def _members(
    expected: Message, actual: Message, bound: dict[str, str], exact: bool, path: str
) -> Iterator[str]:
    for name, wanted in expected.items():
        if name not in actual:
            yield f"{path}.{name}: missing"
        else:
            yield from differences(wanted, actual[name], bound, exact=exact, path=f"{path}.{name}")
    for name in actual.keys() - expected.keys() if exact else ():
        yield f"{path}.{name}: not expected: {_shown(actual[name])}"


def _placeholder(expected: str, actual: Any, bound: dict[str, str]) -> bool | None:
    """Whether `actual` is what the placeholder stands for; None where `expected` is plain text."""
    number = isinstance(actual, int | float) and not isinstance(actual, bool)
    simple = {
        "$any": True,
        "$int": number and isinstance(actual, int),
        "$float": number,
        "$string": isinstance(actual, str),
    }
    if expected in simple:
        return simple[expected]
    if expected.startswith(_BOUND):
        return isinstance(actual, str) and bound.setdefault(expected, actual) == actual
    return None


def joined(messages: list[Message]) -> list[Message]:
    """The notifications of a job with neighbouring `partial`s made into one, which has the last `seq`."""
    result: list[Message] = []
    for message in messages:
        if message["method"] == "partial" and result and result[-1]["method"] == "partial":
            result[-1] = _join(result[-1], message)
        else:
            result.append(message)
    return result


def _join(first: Message, second: Message) -> Message:
    before, after = first["params"], second["params"]
    lists = {name: before.get(name, []) + after.get(name, []) for name in ("items", "failed")}
    return {**second, "params": {**after, **lists}}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]} …"
