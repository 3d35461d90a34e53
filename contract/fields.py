"""What a field of a settings Struct says about itself: title, help, unit, range and level of detail.

Flags, forms, schemas and reference pages are derived from here, so that no list of fields is written twice.
"""

import functools
import operator
import types
import typing
from typing import Any, Literal

import msgspec

#: Who needs the field: everybody, people who tune, people who debug.
Detail = Literal["basic", "advanced", "expert"]


def field(
    title: str,
    text: str,
    *,
    unit: str | None = None,
    detail: Detail = "basic",
    schema: dict[str, Any] | None = None,
    **limits: Any,
) -> msgspec.Meta:
    """The annotation of a settings field; `limits` are msgspec's (ge, le, gt, lt, min_length, pattern …),
    `schema` is what JSON Schema should say beyond the type."""
    extra = {"detail": detail} | ({"unit": unit} if unit else {})
    shown = {f"x-{key}": value for key, value in extra.items()} | (schema or {})
    return msgspec.Meta(title=title, description=text, extra_json_schema=shown, extra=extra, **limits)


def one_of(*fields: str) -> dict[str, Any]:
    """JSON Schema for: exactly one of these fields is given; null is not."""
    return {
        "oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in fields]
    }


class FieldSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a settings Struct, as flags, forms and reference pages need it.

    `annotation` is the bare type; `choices` are the values of a Literal, or what the schema says of a text.
    """

    name: str
    annotation: Any
    required: bool
    default: Any
    title: str
    text: str
    unit: str | None
    detail: Detail
    choices: tuple[str, ...]
    limits: dict[str, float]

    @property
    def optional(self) -> bool:
        """Whether None is a value of the field."""
        return type(None) in typing.get_args(self.annotation)


def arms(settings: Any) -> tuple[type[msgspec.Struct], ...]:
    """The Structs that settings may be: the arms of a union, or the one that they are."""
    if typing.get_origin(settings) in (typing.Union, types.UnionType):
        return tuple(struct for arm in typing.get_args(settings) for struct in arms(arm))
    return (settings,)


def nested(annotation: Any) -> tuple[type[msgspec.Struct], ...]:
    """The Structs in the type of a field: itself, in a list or a table, or an arm of its union."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return (annotation,)
    return tuple(dict.fromkeys(struct for part in typing.get_args(annotation) for struct in nested(part)))


def describe(struct: type[msgspec.Struct]) -> tuple[FieldSpec, ...]:
    """Every field of `struct`, in order."""
    hints = typing.get_type_hints(struct, include_extras=True)
    return tuple(_spec(field, hints[field.name]) for field in msgspec.structs.fields(struct))


def _spec(field: msgspec.structs.FieldInfo, hint: Any) -> FieldSpec:
    bare, metas = _unwrap(hint)
    extra: dict[str, Any] = {}
    extra_schema: dict[str, Any] = {}
    for meta in metas:
        extra |= meta.extra or {}
        extra_schema |= meta.extra_json_schema or {}
    return FieldSpec(
        name=field.name,
        annotation=bare,
        required=field.required,
        default=_default(field),
        title=_last(metas, "title") or field.name,
        text=_last(metas, "description") or "",
        unit=extra.get("unit"),
        detail=extra.get("detail", "basic"),
        choices=_choices(bare) or tuple(extra_schema.get("enum", ())),
        limits={
            bound: limit for bound in ("gt", "ge", "lt", "le") if (limit := _last(metas, bound)) is not None
        },
    )


def _unwrap(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """The bare type, and the annotations on it or on an arm of its union."""
    if typing.get_origin(hint) is typing.Annotated:
        bare, *annotations = typing.get_args(hint)
        return bare, [each for each in annotations if isinstance(each, msgspec.Meta)]
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, []
    arms, metas = zip(*map(_unwrap, typing.get_args(hint)), strict=True)
    return functools.reduce(operator.or_, arms), [meta for each in metas for meta in each]


def _last(metas: list[msgspec.Meta], name: str) -> Any:
    values = [value for meta in metas if (value := getattr(meta, name)) is not None]
    return values[-1] if values else None


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _choices(bare: Any) -> tuple[str, ...]:
    if typing.get_origin(bare) is Literal:
        return typing.get_args(bare)
    if typing.get_origin(bare) in (typing.Union, types.UnionType):
        return tuple(choice for arm in typing.get_args(bare) for choice in _choices(arm))
    return ()
