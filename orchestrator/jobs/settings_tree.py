"""Settings as plain values, looked through along their types: these alone know what stands where."""

import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

#: Fields that name a file or a folder, by the end of their name.
_PATH_FIELDS: Final = ("path", "folder", "file")

#: Takes a Struct, the value that stands for one, and its place (a JSON path); gives what is to stand there.
Replace = Callable[[type[msgspec.Struct], Any, str], Any]


def replaced(wanted: Any, value: Any, replace: Replace, where: str = "$.settings") -> Any:
    """`value` with what `replace` gives for everything that stands for a Struct, from the outside in.

    `value` need not fit: what is meant for nothing stays as it is.
    """
    arm = _meant(wanted, value)
    if _is_struct(arm):
        value = replace(arm, value, where)
        hints = typing.get_type_hints(arm, include_extras=True)
        if not isinstance(value, dict):
            return value
        return {
            name: replaced(hints[name], each, replace, f"{where}.{name}") if name in hints else each
            for name, each in value.items()
        }
    origin, arguments = typing.get_origin(arm), typing.get_args(arm)
    if origin is list and isinstance(value, list):
        return [
            replaced(arguments[0], each, replace, f"{where}[{index}]") for index, each in enumerate(value)
        ]
    if origin is dict and isinstance(value, dict):
        return {
            name: replaced(arguments[1], each, replace, f"{where}[{msgspec.json.encode(name).decode()}]")
            for name, each in value.items()
        }
    return value


def structs_in(wanted: Any, value: Any) -> Iterator[tuple[type[msgspec.Struct], Any, str]]:
    """Everything that stands for a Struct, with that Struct and its place, from the outside in."""
    found: list[tuple[type[msgspec.Struct], Any, str]] = []

    def note(struct: type[msgspec.Struct], each: Any, where: str) -> Any:
        found.append((struct, each, where))
        return each

    replaced(wanted, value, note)
    yield from found


def paths_in(wanted: Any, value: Any) -> Iterator[tuple[str, str]]:
    """Every path in whole settings, and its place before it."""
    for struct, each, where in structs_in(wanted, value):
        for name in struct.__struct_fields__ if isinstance(each, dict) else ():
            if name.rpartition("_")[2] in _PATH_FIELDS and isinstance(each.get(name), str):
                yield f"{where}.{name}", each[name]


def _meant(wanted: Any, value: Any) -> Any:
    """The arm of a union that a value is meant for; the first Struct without a tag, for a name of one."""
    arms = list(_arms(wanted))
    if len(arms) == 1:
        return arms[0]
    fitting = (arm for arm in arms if _fits(arm, value))
    return next(fitting, None)


def _fits(arm: Any, value: Any) -> bool:
    if not _is_struct(arm):
        origin = typing.get_origin(arm) or arm
        return isinstance(origin, type) and isinstance(value, origin)
    config = arm.__struct_config__
    if config.tag is None:
        return isinstance(value, dict | str)
    return isinstance(value, dict) and value.get(config.tag_field) == config.tag


def _arms(wanted: Any) -> Iterator[Any]:
    while typing.get_origin(wanted) is typing.Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for arm in typing.get_args(wanted):
            yield from _arms(arm)
    else:
        yield wanted


def _is_struct(arm: Any) -> bool:
    return isinstance(arm, type) and issubclass(arm, msgspec.Struct)
