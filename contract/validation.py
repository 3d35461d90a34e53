"""Decoding what somebody wrote, and saying everything that is wrong with it at once.

msgspec stops at the first problem. The fast path is msgspec's own; only when it fails is the value walked
again, field by field, to collect every problem with its JSON path.
"""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from contract.errors import InvalidParams, cut

T = TypeVar("T")

#: More problems than this help nobody, and would only make a message long.
MAX_PROBLEMS = 100

#: In `extra` of a msgspec.Meta with a pattern: the words for what fits it.
EXPECTED = "expected"

_AT = " - at `"


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (a JSON path), and what."""

    where: str
    message: str


class Contradiction(ValueError):
    """Raised by a Struct's own checks, in the words of its fields: `problems` are (field, message) pairs."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = problems


def decode(value: Any, wanted: type[T], *, path: str = "$", strict: bool = True) -> T:
    """`value` (plain JSON types) as a `wanted`; unless `strict`, texts may stand for numbers and truths.

    Raises InvalidParams with the first problem as its text and all of them in `details.problems`.
    """
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        problems = list(_first(_walk(value, wanted, path, strict), MAX_PROBLEMS)) or [_problem(error, path)]
    raise invalid(problems)


def invalid(problems: list[Problem]) -> InvalidParams:
    """The error that names `problems`, the first in its text."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidParams(
        f"{first.where}: {first.message}{more}",
        where=first.where,
        details={"problems": [{"where": cut(each.where), "message": cut(each.message)} for each in problems]},
    )


def _first(problems: Iterator[Problem], count: int) -> Iterator[Problem]:
    for _, problem in zip(range(count), problems, strict=False):
        yield problem


def _walk(value: Any, wanted: Any, path: str, strict: bool) -> Iterator[Problem]:
    """Every problem of `value` and of what is inside it; nothing when it fits."""
    inner = list(_inside(value, wanted, path, strict))
    if inner:
        yield from inner
        return
    try:
        msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        yield from _own(error, wanted, path)


def _inside(value: Any, wanted: Any, path: str, strict: bool) -> Iterator[Problem]:
    bare = _bare(wanted, value)
    origin, arguments = typing.get_origin(bare) or bare, typing.get_args(bare)
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct) and isinstance(value, Mapping):
        yield from _struct(value, origin, path, strict)
    elif origin is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, arguments[0] if arguments else Any, f"{path}[{index}]", strict)
    elif origin is dict and isinstance(value, Mapping) and arguments:
        for key, item in value.items():
            place = f"{path}[{_quoted(key)}]"
            yield from (
                Problem(place, f"its name: {each.message}")
                for each in _walk(key, arguments[0], place, strict)
            )
            yield from _walk(item, arguments[1], place, strict)
    elif isinstance(value, Mapping) and (tags := _tags(wanted)):
        yield from _untagged(value, tags, path)


def _struct(
    value: Mapping[str, Any], struct: type[msgspec.Struct], path: str, strict: bool
) -> Iterator[Problem]:
    hints = typing.get_type_hints(struct, include_extras=True)
    config = struct.__struct_config__
    known = {each.encode_name: each for each in msgspec.structs.fields(struct)}
    for name, each in known.items():
        if name in value:
            yield from _walk(value[name], hints[each.name], f"{path}.{name}", strict)
        elif each.required:
            yield Problem(f"{path}.{name}", "is required")
    if config.forbid_unknown_fields:
        for name in value:
            if name not in known and name != config.tag_field:
                yield Problem(f"{path}.{name}", "is not a known field")


def _bare(wanted: Any, value: Any) -> Any:
    """`wanted` without its annotations; of a union, the arm that `value` is meant for."""
    arms = _arms(wanted)
    if len(arms) == 1:
        return arms[0]
    return next((arm for arm in arms if _is_for(arm, value)), Any)


def _is_for(arm: Any, value: Any) -> bool:
    origin = typing.get_origin(arm) or arm
    if not (isinstance(origin, type) and issubclass(origin, msgspec.Struct)):
        return origin in (list, dict) and isinstance(value, origin)
    config = origin.__struct_config__
    return isinstance(value, Mapping) and (config.tag is None or value.get(config.tag_field) == config.tag)


def _tags(wanted: Any) -> dict[str, list[str]]:
    """Of a tagged union, the field that says which arm is meant, and what it may say."""
    tags: dict[str, list[str]] = {}
    for arm in _arms(wanted):
        config = getattr(typing.get_origin(arm) or arm, "__struct_config__", None)
        if config is not None and config.tag is not None:
            tags.setdefault(config.tag_field, []).append(config.tag)
    return tags


def _untagged(value: Mapping[str, Any], tags: dict[str, list[str]], path: str) -> Iterator[Problem]:
    for name, known in tags.items():
        words = f"is none of {', '.join(known)}" if name in value else "is required"
        yield Problem(f"{path}.{name}", words)


def _arms(wanted: Any) -> list[Any]:
    """The arms of a union, without their annotations; anything else is its own."""
    while typing.get_origin(wanted) is typing.Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) not in (typing.Union, types.UnionType):
        return [wanted]
    return [each for arm in typing.get_args(wanted) for each in _arms(arm)]


def _own(error: msgspec.ValidationError, wanted: Any, path: str) -> Iterator[Problem]:
    if isinstance(error.__cause__, Contradiction):
        for field, message in error.__cause__.problems:
            yield Problem(f"{path}.{field}", message)
    elif (words := _words(str(error), wanted)) is not None:
        yield Problem(path, words)
    else:
        yield _problem(error, path)


def _words(text: str, wanted: Any) -> str | None:
    """What may stand there instead, where msgspec names what is wrong alone, or a regular expression."""
    if text.startswith("Invalid enum value") and _AT not in text:
        choices = [str(each) for arm in _arms(wanted) for each in typing.get_args(arm)]
        return f"is none of {', '.join(choices)}" if choices else None
    if "matching regex" in text and _AT not in text:
        expected = next(filter(None, (each.get(EXPECTED) for each in _extras(wanted))), None)
        return None if expected is None else f"expected {expected}"
    return None


def _extras(wanted: Any) -> Iterator[Mapping[str, Any]]:
    """What the annotations of a type, or of the arms of a union, say beside msgspec's own."""
    if typing.get_origin(wanted) is typing.Annotated:
        bare, *annotations = typing.get_args(wanted)
        yield from (each.extra for each in annotations if isinstance(each, msgspec.Meta) and each.extra)
        yield from _extras(bare)
    elif typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for arm in typing.get_args(wanted):
            yield from _extras(arm)


def _problem(error: msgspec.ValidationError, path: str) -> Problem:
    text, _, below = str(error).partition(_AT)
    return Problem(path + below.rstrip("`").removeprefix("$"), text[:1].lower() + text[1:])


def _quoted(key: str) -> str:
    return msgspec.json.encode(key).decode()
