"""Requests that any operation takes, made from what the registry says of it."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import hypothesis
import msgspec
from hypothesis.strategies import from_regex
from msgspec import inspect

from orchestrator.api.registry import Operation

#: Texts in the order in which they are tried for a field; the first that the field takes is sent.
_TEXTS: Final = ("tag", "datasets", "folder/photo.png", "0" * 64)
_SAME_AGAIN: Final = hypothesis.settings(derandomize=True, database=None, phases=(hypothesis.Phase.generate,))


class Field(NamedTuple):
    """A text somewhere in a request: its name, and the way to it from the body's root."""

    name: str
    way: tuple[str | int, ...]


def sample(wanted: Any) -> Any:
    """The least that is a `wanted`, as it stands in JSON."""
    return _sample(inspect.type_info(wanted))


def path_of(operation: Operation, ids: dict[str, str]) -> str:
    """The path with its parameters filled in, from `ids` where they are there."""
    values = {name: ids.get(name) or sample(wanted) for name, wanted in operation.path_types.items()}
    return operation.full_path.format(**values)


def texts_in(wanted: Any) -> Iterator[Field]:
    """Every text that a body of this type can have, those of fields that may be left out included."""
    yield from _texts(inspect.type_info(wanted), Field("", ()), ())


def with_text(body: Any, wanted: Any, way: tuple[str | int, ...], text: str) -> Any:
    """A copy of `body` with `text` at a way of `texts_in`; what leads there is made where it is absent."""
    return _placed(inspect.type_info(wanted), body, way, text)


def _sample(info: inspect.Type) -> Any:
    match info:
        case inspect.StructType(fields=fields):
            return {field.encode_name: _sample(field.type) for field in fields if field.required}
        case inspect.UnionType(types=types):
            return _sample(_likely(types))
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.StrType():
            return _text(info)
        case inspect.IntType(ge=least) | inspect.FloatType(ge=least):
            return 1 if least is None else least
        case inspect.BoolType():
            return True
        case (
            inspect.ListType(item_type=item, min_length=length)
            | inspect.VarTupleType(item_type=item, min_length=length)
        ):
            return [_sample(item)] * (length or 0)
        case inspect.DictType() | inspect.AnyType():
            return {}
        case inspect.Metadata(type=inner):
            return _sample(inner)
    raise LookupError(f"no sample of {info}")


def _text(info: inspect.StrType) -> str:
    for text in _TEXTS:
        if (info.min_length or 0) <= len(text) <= (info.max_length or len(text)) and (
            info.pattern is None or re.search(info.pattern, text)
        ):
            return text
    return _like(info.pattern or "")


@cache
def _like(pattern: str) -> str:
    """Some text of a pattern, always the same."""
    found: str = hypothesis.find(from_regex(pattern), lambda _: True, settings=_SAME_AGAIN)
    return found


def _likely(types: tuple[inspect.Type, ...]) -> inspect.Type:
    absent = (inspect.NoneType, inspect.CustomType)
    return next((each for each in types if not isinstance(each, absent)), types[0])


def _texts(info: inspect.Type, here: Field, seen: tuple[type, ...]) -> Iterator[Field]:
    match info:
        case inspect.StrType():
            yield here
        case inspect.Metadata(type=inner):
            yield from _texts(inner, here, seen)
        case inspect.UnionType(types=types):
            for each in types:
                yield from _texts(each, here, seen)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            yield from _texts(item, Field(here.name, (*here.way, 0)), seen)
        case inspect.StructType(cls=cls, fields=fields) if cls not in seen:
            for field in fields:
                deeper = Field(field.encode_name, (*here.way, field.encode_name))
                yield from _texts(field.type, deeper, (*seen, cls))


def _placed(info: inspect.Type, body: Any, way: tuple[str | int, ...], text: str) -> Any:
    if not way:
        return text
    first, *rest = way
    inner = _entered(info, first)
    if first == 0:
        return [_placed(inner, _sample(inner), tuple(rest), text)]
    whole = dict(body) if isinstance(body, dict) else _sample_for(info, first)
    return {**whole, first: _placed(inner, whole.get(first), tuple(rest), text)}


def _arms(info: inspect.Type) -> Iterator[inspect.Type]:
    match info:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _arms(each)
        case inspect.Metadata(type=inner):
            yield from _arms(inner)
        case _:
            yield info


def _entered(info: inspect.Type, step: str | int) -> inspect.Type:
    """The type one step deeper."""
    for arm in _arms(info):
        match arm:
            case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item) if step == 0:
                return item
            case inspect.StructType(fields=fields):
                for field in fields:
                    if field.encode_name == step:
                        return field.type
    raise LookupError(f"no {step} in {info}")


def _sample_for(info: inspect.Type, step: str | int) -> dict[str | int, Any]:
    """A sample of that arm which has `step`."""
    for arm in _arms(info):
        if isinstance(arm, inspect.StructType) and any(step == field.encode_name for field in arm.fields):
            made: dict[str | int, Any] = _sample(arm)
            return made
    raise LookupError(f"no {step} in {info}")


def body_of(operation: Operation) -> bytes:
    """The least body that an operation takes; empty where it takes none."""
    return b"" if operation.body is None else msgspec.json.encode(sample(operation.body))
