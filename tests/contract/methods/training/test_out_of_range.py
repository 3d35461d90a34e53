"""Every field of the settings, just out of its range: found in the schema, refused with its place.

This is all that happens to such a request: a kernel decodes its params before a job begins.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from contract.errors import InvalidParams
from contract.export import portable
from contract.methods.registry import METHODS
from contract.methods.train import TrainSettings

Schema = dict[str, Any]

_REF = "#/$defs/"
_WHOLE: Schema = portable(msgspec.json.schema(TrainSettings, ref_template=_REF + "{name}"))
#: Texts for required fields that are no plain ones.
_TEXTS = {"import_name": "package.module.Class"}
#: What each type is not; `1.5` is a number, and no whole one.
_WRONG: dict[str, list[Any]] = {
    "integer": ["1", 1.5, True, [], {}],
    "number": ["1", True, [], {}],
    "string": [1, [], {}],
    "boolean": [0, "true", [], {}],
    "array": [{}, "a", 1],
    "object": [[], "a", 1],
}


class Bad(NamedTuple):
    """A value out of its range, where it stands, and settings that are valid but for it."""

    where: str
    value: Any
    settings: dict[str, Any]


class _Place(NamedTuple):
    """Keys and indexes from the settings on, and what stands around: the tag of an arm above all."""

    path: tuple[str | int, ...]
    whole: dict[str, Any]

    def at(self, key: str | int) -> "_Place":
        return _Place((*self.path, key), self.whole)

    def having(self, value: Any) -> "_Place":
        return _Place(self.path, _put(self.whole, self.path, value))

    @property
    def where(self) -> str:
        return "$.params.settings" + "".join(
            f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path
        )


def _put(whole: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(first, int):
        items = list(whole) if isinstance(whole, list) else []
        items += [None] * (first + 1 - len(items))
        items[first] = _put(items[first], tuple(rest), value)
        return items
    table = dict(whole) if isinstance(whole, dict) else {}
    return table | {first: _put(table.get(first), tuple(rest), value)}


def _resolved(schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = _WHOLE["$defs"][schema["$ref"].removeprefix(_REF)]
    return schema


def _least(schema: Schema, name: str = "") -> Any:
    """The least that the schema takes."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        return _least(schema["anyOf"][0])
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            of = schema.get("properties", {})
            return {key: _least(of[key], key) for key in schema.get("required", [])}
        case "array":
            return [_least(schema["items"])] * schema.get("minItems", 0)
        case "string":
            return _TEXTS.get(name, "/a.safetensors")
        case _:
            return schema.get("minimum", 1)


def _bad(schema: Schema, place: _Place) -> Iterator[Bad]:
    schema = _resolved(schema)
    arms = [_resolved(each) for each in schema.get("anyOf", [schema])]
    kinds = {each.get("type") for each in arms}
    for arm in arms:
        yield from _out_of(arm, place)
    if {"array", "object"} & kinds or len(kinds - {"null"}) == 1:
        for kind in map(str, kinds - {"null", None}):
            yield from (
                Bad(place.where, value, _put(place.whole, place.path, value)) for value in _WRONG[kind]
            )
    if "null" not in kinds and schema.get("enum") is None and kinds != {None}:
        yield Bad(place.where, None, _put(place.whole, place.path, None))


def _out_of(schema: Schema, place: _Place) -> Iterator[Bad]:
    for value in _outside(schema):
        yield Bad(place.where, value, _put(place.whole, place.path, value))
    if "properties" in schema:
        # What is there already, in the settings above all, stays.
        here = place if not place.path else place.having(_least(schema))
        for name, each in schema["properties"].items():
            yield from _bad(each, here.at(name))
        unknown = here.at("no_such_field")
        yield Bad(unknown.where, 1, _put(here.whole, unknown.path, 1))
    if isinstance(items := schema.get("items"), dict):
        count = max(1, schema.get("minItems", 0))
        here = place.having([_least(items)] * count)
        yield from _bad(items, here.at(count - 1))


def _outside(schema: Schema) -> Iterator[Any]:
    """The values next to those that are taken."""
    step = 1 if schema.get("type") == "integer" else None
    if "minimum" in schema:
        least = schema["minimum"]
        yield least - step if step else math.nextafter(least, -math.inf)
    if "maximum" in schema:
        most = schema["maximum"]
        yield most + step if step else math.nextafter(most, math.inf)
    if "exclusiveMinimum" in schema:
        yield schema["exclusiveMinimum"]
    if "exclusiveMaximum" in schema:
        yield schema["exclusiveMaximum"]
    if "multipleOf" in schema:
        yield schema.get("minimum", 0) + schema["multipleOf"] + 1
    if "enum" in schema:
        yield from ("no such", 1, [])
    if schema.get("minLength"):
        yield ""
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
    if "pattern" in schema:
        yield "\n"
    if "minItems" in schema and isinstance(schema.get("items"), dict):
        yield [_least(schema["items"])] * (schema["minItems"] - 1)
    if "maxItems" in schema and isinstance(schema.get("items"), dict):
        yield [_least(schema["items"])] * (schema["maxItems"] + 1)


#: `training` has one of two.
_VALID: dict[str, Any] = {"model": {"base": {"path": "/a.safetensors"}}, "training": {"steps": 10}}
BAD = list(_bad(_WHOLE, _Place((), _VALID)))


def _asked(settings: Any) -> bytes:
    params = {"job_id": "a", "v": 2, "settings": settings}
    params |= {"inputs": {"folders": ["/d"]}, "outputs": {"file": "/l.safetensors", "run": "/r"}}
    return msgspec.json.encode(params)


def _decode(settings: Any) -> Any:
    params, _ = METHODS["train"].payload.decode(_asked(settings))
    return params


def _tables(bads: list[Bad]) -> dict[str, list[Bad]]:
    tables: dict[str, list[Bad]] = {}
    for bad in bads:
        tables.setdefault(bad.where.split(".")[3] if bad.where.count(".") > 2 else "", []).append(bad)
    return tables


def _fields(schema: Schema, path: str = "") -> Iterator[str]:
    """Every field that has a value of its own, in every arm."""
    schema = _resolved(schema)
    for arm in (_resolved(each) for each in schema.get("anyOf", [schema])):
        for name, each in arm.get("properties", {}).items():
            yield f"{path}.{name}"
            yield from _fields(each, f"{path}.{name}")
        if isinstance(arm.get("items"), dict):
            yield from _fields(arm["items"], f"{path}[0]")


def test_what_is_around_is_valid() -> None:
    _decode(_VALID)


def test_every_field_is_tried() -> None:
    tried = {bad.where.removeprefix("$.params.settings") for bad in BAD}
    assert set(_fields(_WHOLE)) - tried == set()
    assert len(BAD) > 1000


@pytest.mark.parametrize("table", _tables(BAD))
def test_a_value_out_of_its_range_is_refused_where_it_stands(table: str) -> None:
    taken = []
    for bad in _tables(BAD)[table]:
        try:
            _decode(bad.settings)
        except InvalidParams as error:
            places = [each["where"] for each in error.details["problems"]]
            if bad.where not in places:
                taken.append((bad, places))
        else:
            taken.append((bad, []))
    assert taken == []
