"""Whether a later OpenRPC document of the contract still keeps what a frozen one promised. Pure.

What a host sends must still be taken: no field gone, newly required, of fewer types, values or lengths, or
with another default. What a kernel says must still be there, of the same types; it may say more, a new value
of an enumeration included.
"""

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
Schema = dict[str, Any]

#: Keywords that are lower bounds of what is taken, and those that are upper bounds.
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
#: Keywords that can only be compared as they are.
_OPAQUE = ("pattern", "oneOf", "format", "multipleOf")
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def broken(frozen: Document, now: Document) -> Iterator[str]:
    """Every promise of `frozen` that `now` no longer keeps."""
    yield from (f"level {level}: gone" for level in frozen["x-levels"] if level not in now["x-levels"])
    check = _Check(frozen, now)
    yield from check.methods()
    yield from check.notifications()
    yield from _errors(frozen, now)
    for name, promised in frozen["x-capabilities"].items():
        if promised and not now["x-capabilities"].get(name):
            yield f"capability {name}: gone"


def _errors(frozen: Document, now: Document) -> Iterator[str]:
    known = {error["kind"]: error for error in now["x-errors"]}
    for error in frozen["x-errors"]:
        kind = error["kind"]
        if kind not in known:
            yield f"error {kind}: gone"
            continue
        for name in ("code", "retryable"):
            if known[kind][name] != error[name]:
                yield f"error {kind}: {name} was {error[name]}, is {known[kind][name]}"


class _Check:
    def __init__(self, frozen: Document, now: Document) -> None:
        self._frozen = frozen
        self._now = now

    def methods(self) -> Iterator[str]:
        known = {method["name"]: method for method in self._now["methods"]}
        for method in self._frozen["methods"]:
            name = method["name"]
            if name not in known:
                yield f"method {name}: gone"
            else:
                yield from self._method(name, method, known[name])

    def _method(self, name: str, old: Document, new: Document) -> Iterator[str]:
        if old["x-kind"] != new["x-kind"]:
            yield f"method {name}: was a {old['x-kind']}, is a {new['x-kind']}"
        for flag in ("x-idempotent", "x-resumable"):
            if old[flag] and not new[flag]:
                yield f"method {name}: no longer {flag.removeprefix('x-')}"
        for version, schema in old["x-payloads"].items():
            if version not in new["x-payloads"]:
                yield f"method {name}: payload version {version} gone"
            else:
                yield from self._taken(schema, new["x-payloads"][version], f"{name} v{version}")
        for part in ("result", "x-partial-item"):
            if part in old:
                yield from self._result(old[part], new.get(part), f"{name} {part.removeprefix('x-')}")

    def _result(self, old: Schema, new: Schema | None, path: str) -> Iterator[str]:
        if new is None:
            yield f"{path}: gone"
        else:
            yield from self._said(old.get("schema", old), new.get("schema", new), path)

    def notifications(self) -> Iterator[str]:
        for name, old in self._frozen["x-notifications"].items():
            new = self._now["x-notifications"].get(name)
            if new is None:
                yield f"notification {name}: gone"
                continue
            if new["lossy"] and not old["lossy"]:
                yield f"notification {name}: may be lost now"
            yield from self._said(old["params"], new["params"], name)

    def _taken(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """What of `old`, which a host may send, `new` refuses or takes for something else."""
        old, new = _resolved(old, self._frozen), _resolved(new, self._now)
        if "anyOf" in old:
            for arm in old["anyOf"]:
                yield from self._taken(arm, new, path)
            return
        if "anyOf" in new:
            yield from self._taken_by_an_arm(old, new["anyOf"], path)
            return
        yield from _narrowed(old, new, path)
        yield from self._taken_fields(old, new, path)
        for inner in ("items", "additionalProperties"):
            yield from self._taken_inner(old.get(inner), new.get(inner), f"{path}.{inner}")

    def _taken_by_an_arm(self, old: Schema, arms: list[Schema], path: str) -> Iterator[str]:
        found = [list(self._taken(old, arm, path)) for arm in arms]
        if all(found):
            yield from min(found, key=len)

    def _taken_fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        known = new.get("properties", {})
        for name, schema in old.get("properties", {}).items():
            if name in known:
                yield from self._taken(schema, known[name], f"{path}.{name}")
                yield from _default(schema, known[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: no longer taken"
        for name in new.get("required", []):
            if name not in old.get("required", []):
                yield f"{path}.{name}: newly required"

    def _taken_inner(self, old: Any, new: Any, path: str) -> Iterator[str]:
        if new is False and old is not False:
            yield f"{path}: no longer taken"
        elif isinstance(new, dict) and new and old is not False:
            yield from self._taken(old if isinstance(old, dict) else {}, new, path)

    def _said(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """What of `old`, which a host may count on, `new` no longer says."""
        old, new = _resolved(old, self._frozen), _resolved(new, self._now)
        if (types := _types(new, self._now)) and (promised := _types(old, self._frozen)):
            yield from (f"{path}: may be {each} now" for each in sorted(types - promised))
        for name, schema in _properties(old, self._frozen).items():
            if (found := _properties(new, self._now).get(name)) is None:
                yield f"{path}.{name}: no longer said"
            else:
                yield from self._said(schema, found, f"{path}.{name}")
        for name in _members(old, "required", self._frozen):
            if name not in _members(new, "required", self._now):
                yield f"{path}.{name}: no longer always said"
        for inner in ("items", "additionalProperties"):
            if isinstance(old.get(inner), dict):
                found = new.get(inner)
                yield from self._said(old[inner], found if isinstance(found, dict) else {}, f"{path}.{inner}")


def _resolved(schema: Schema, document: Document) -> Schema:
    """`schema` with its reference followed; what stands beside the reference stays."""
    while "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**document["components"]["schemas"][name], **beside}
    return schema


def _arms(schema: Schema, document: Document) -> list[Schema]:
    return [_resolved(arm, document) for arm in schema.get("anyOf", [schema])]


def _types(schema: Schema, document: Document) -> set[str]:
    """The JSON types of a value; empty for anything. A whole number is a number."""
    found: set[str] = set()
    for arm in _arms(schema, document):
        types = _own_types(arm)
        if not types:
            return set()
        found |= types
    return found | ({"integer"} if "number" in found else set())


def _own_types(schema: Schema) -> set[str]:
    if "enum" in schema:
        return {_JSON_TYPES[type(value)] for value in schema["enum"]}
    types = schema.get("type", [])
    return {types} if isinstance(types, str) else set(types)


def _properties(schema: Schema, document: Document) -> dict[str, Schema]:
    return {name: each for arm in _arms(schema, document) for name, each in arm.get("properties", {}).items()}


def _members(schema: Schema, keyword: str, document: Document) -> list[str]:
    return [name for arm in _arms(schema, document) for name in arm.get(keyword, [])]


def _narrowed(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """What of the values themselves is no longer taken: types, enumerated values, ranges, patterns."""
    types = _own_types(new) | ({"integer"} if "number" in _own_types(new) else set())
    if types and (lost := (_own_types(old) or {"anything"}) - types):
        yield f"{path}: no longer {', '.join(sorted(lost))}"
    elif "enum" in new and (
        gone := [each for each in old.get("enum", ["others"]) if each not in new["enum"]]
    ):
        yield f"{path}: no longer {', '.join(map(str, gone))}"
    for keyword in _LOWER:
        if keyword in new and old.get(keyword, float("-inf")) < new[keyword]:
            yield f"{path}: {keyword} is {new[keyword]} now"
    for keyword in _UPPER:
        if keyword in new and old.get(keyword, float("inf")) > new[keyword]:
            yield f"{path}: {keyword} is {new[keyword]} now"
    for keyword in _OPAQUE:
        if keyword in new and old.get(keyword) != new[keyword]:
            yield f"{path}: {keyword} is {new[keyword]} now"


def _default(old: Schema, new: Schema, path: str) -> Iterator[str]:
    if "default" in old and old["default"] != new.get("default"):
        yield f"{path}: default was {old['default']}, is {new.get('default')}"
