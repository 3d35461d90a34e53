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
        yield from _own(error, path)


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
            yield from _walk(item, arguments[1], f"{path}[{_quoted(key)}]", strict)


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
    while typing.get_origin(wanted) is typing.Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) not in (typing.Union, types.UnionType):
        return wanted
    arms = [_bare(arm, value) for arm in typing.get_args(wanted)]
    return next((arm for arm in arms if _is_for(arm, value)), Any)


def _is_for(arm: Any, value: Any) -> bool:
    origin = typing.get_origin(arm) or arm
    if not (isinstance(origin, type) and issubclass(origin, msgspec.Struct)):
        return origin in (list, dict) and isinstance(value, origin)
    config = origin.__struct_config__
    return isinstance(value, Mapping) and (config.tag is None or value.get(config.tag_field) == config.tag)


def _own(error: msgspec.ValidationError, path: str) -> Iterator[Problem]:
    if isinstance(error.__cause__, Contradiction):
        for field, message in error.__cause__.problems:
            yield Problem(f"{path}.{field}", message)
    else:
        yield _problem(error, path)


def _problem(error: msgspec.ValidationError, path: str) -> Problem:
    text, _, below = str(error).partition(_AT)
    return Problem(path + below.rstrip("`").removeprefix("$"), text[:1].lower() + text[1:])


def _quoted(key: str) -> str:
    return msgspec.json.encode(key).decode()
