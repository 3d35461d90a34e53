"""Command-line flags derived from a settings Struct: one flag a field, with its help, range and default."""

import argparse
import os
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from contract.fields import Detail, FieldSpec, describe
from contract.methods.tag import TaggerModel
from contract.rules.paths import to_wire
from contract.rules.taggers import SHORT_NAMES, model_reference

_GROUPS: dict[Detail, str] = {
    "basic": "settings",
    "advanced": "advanced settings",
    "expert": "expert settings",
}


def add_settings(parser: argparse.ArgumentParser, struct: type[msgspec.Struct]) -> None:
    """Give `parser` a flag for every field of `struct`. Ranges are checked later, all at once."""
    groups = {detail: parser.add_argument_group(title) for detail, title in _GROUPS.items()}
    for spec in describe(struct):
        groups[spec.detail].add_argument(
            _flag(spec.name), dest=_dest(spec.name), default=None, help=_help(spec), **_kind(spec)
        )


def given_settings(arguments: argparse.Namespace, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields whose flags were given, as plain values."""
    values = {spec.name: getattr(arguments, _dest(spec.name)) for spec in describe(struct)}
    return {name: value for name, value in values.items() if value is not None}


def tagger_model(text: str) -> dict[str, str]:
    """A TaggerModel as people write it: a folder that exists, a repository, or a short name."""
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.isdir(path) or text.startswith((".", "~", os.sep)):
        return {"path": to_wire(path)}
    try:
        return model_reference(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _dest(name: str) -> str:
    return f"setting_{name}"


def _help(spec: FieldSpec) -> str:
    parts = [spec.text.replace("%", "%%")]
    if spec.annotation is TaggerModel:
        parts.append(f"Short names: {', '.join(SHORT_NAMES)}.")
    if bounds := [f"{spec.limits[key]:g}" for key in ("ge", "gt", "le", "lt") if key in spec.limits]:
        parts.append(f"Range {' to '.join(bounds)}.")
    if spec.required:
        parts.append("Required.")
    elif spec.default not in ([], {}, None):
        parts.append(f"Default: {_shown(spec.default)}.")
    return " ".join(parts)


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, repr(value)) if isinstance(value, bool) else repr(value)


def _kind(spec: FieldSpec) -> dict[str, Any]:
    """What argparse needs to know of a field."""
    annotation = _without_none(spec.annotation)
    if spec.choices:
        return {"choices": spec.choices}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(annotation) is list:
        return {"action": _Items, "metavar": "A,B"}
    if typing.get_origin(annotation) is dict:
        return {"action": _Pairs, "metavar": "FROM=TO"}
    return {"type": _PARSERS[annotation], "metavar": _METAVARS.get(annotation, "TEXT")}


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    return next(arm for arm in typing.get_args(annotation) if arm is not type(None))


_PARSERS: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float, TaggerModel: tagger_model}
_METAVARS = {int: "N", float: "X", TaggerModel: "REPO|DIR"}


class _Items(argparse.Action):
    """`--exclude a,b --exclude c` → [a, b, c]."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        items = [item for each in values.split(",") if (item := each.strip())]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *items])


class _Pairs(argparse.Action):
    """`--replace a=b --replace c=d` → {a: b, c: d}; the last `=` counts, as in the tag `=_=`."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        name, equals, text = values.rpartition("=")
        if not equals or not name:
            raise argparse.ArgumentError(self, f"`{values}`: write FROM=TO")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), name: text})
