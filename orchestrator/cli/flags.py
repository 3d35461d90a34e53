"""Command-line flags derived from a settings Struct: one flag a field, with its help, range and default."""

import argparse
import os
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, Literal

import msgspec

from contract.fields import Detail, FieldSpec, describe
from contract.methods.tag import TaggerModel
from contract.methods.weights import WeightsFile
from contract.rules.paths import to_wire
from contract.rules.taggers import SHORT_NAMES, model_reference

_GROUPS: dict[Detail, str] = {
    "basic": "settings",
    "advanced": "advanced settings",
    "expert": "expert settings",
}


def add_settings(
    parser: argparse.ArgumentParser,
    struct: type[msgspec.Struct],
    *,
    without: Collection[str] = (),
    title: str | None = None,
) -> None:
    """Give `parser` a flag for every field of `struct` but those of `without`, in the groups of their detail
    or all in one called `title`. Ranges are checked later, all at once."""
    if title is None:
        groups = {detail: parser.add_argument_group(name) for detail, name in _GROUPS.items()}
    else:
        groups = dict.fromkeys(_GROUPS, parser.add_argument_group(title))
    for spec in describe(struct):
        if spec.name in without:
            continue
        groups[spec.detail].add_argument(
            _flag(spec.name), dest=_dest(spec.name), default=None, help=_help(spec), **_kind(spec)
        )


def given_settings(arguments: argparse.Namespace, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields whose flags were given, as plain values."""
    values = {spec.name: getattr(arguments, _dest(spec.name), None) for spec in describe(struct)}
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


def weights_file(text: str) -> dict[str, str]:
    """A WeightsFile as people write it: a path, told from where they stand."""
    if not text:
        raise argparse.ArgumentTypeError("name a file")
    return {"path": to_wire(os.path.abspath(os.path.expanduser(text)))}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _dest(name: str) -> str:
    return f"setting_{name}"


def _help(spec: FieldSpec) -> str:
    parts = [spec.text.replace("%", "%%")]
    if spec.annotation is TaggerModel:
        parts.append(f"Short names: {', '.join(SHORT_NAMES)}.")
    if spec.choices and not _is_literal(spec.annotation):
        parts.append(f"One of {', '.join(spec.choices)}.")
    if spec.limits:
        parts.append(f"{_range(spec.limits)}.")
    if spec.required:
        parts.append("Required.")
    elif spec.default not in ([], {}, None):
        parts.append(f"Default: {_shown(spec.default)}.")
    return " ".join(parts)


def _range(limits: dict[str, float]) -> str:
    low, high = (
        [f"{limits[key]:g}" for key in keys if key in limits] for keys in (("ge", "gt"), ("le", "lt"))
    )
    # A limit of all integers that every program can write says nothing to people.
    if not high or limits.get("lt", 0) >= _EXACT:
        return f"{'Above' if 'gt' in limits else 'From'} {low[0]}"
    return f"Range {' to '.join([*low, *high])}"


#: Integers from here on are not exact in every language.
_EXACT = 2**53


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, repr(value)) if isinstance(value, bool) else repr(value)


def _kind(spec: FieldSpec) -> dict[str, Any]:
    """What argparse needs to know of a field."""
    annotation = _without_none(spec.annotation)
    if spec.choices and _is_literal(annotation):
        return {"choices": spec.choices}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if any(typing.get_origin(arm) is list for arm in typing.get_args(annotation)):
        return {"type": _by_block, "metavar": "PRESET|A,B"}
    if typing.get_origin(annotation) is list:
        return {"action": _Items, "metavar": "A,B"}
    if typing.get_origin(annotation) is dict:
        parse = _PARSERS[typing.get_args(annotation)[1]]
        return {"action": _Pairs, "metavar": "FROM=TO" if parse is str else "NAME=N", "const": parse}
    return {"type": _PARSERS[annotation], "metavar": _metavar(spec, annotation)}


def _metavar(spec: FieldSpec, annotation: Any) -> str:
    return spec.name.upper() if spec.choices else _METAVARS.get(annotation, "TEXT")


def _is_literal(annotation: Any) -> bool:
    """Whether argparse may refuse what is no choice; of others the contract says more of what is wrong."""
    return typing.get_origin(_without_none(annotation)) is Literal


def _by_block(text: str) -> Any:
    """`0,0.5,1` as numbers; anything else is the name of a preset."""
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        return text


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    some = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
    return some[0] if len(some) == 1 else annotation


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    TaggerModel: tagger_model,
    WeightsFile: weights_file,
}
_METAVARS = {int: "N", float: "X", TaggerModel: "REPO|DIR", WeightsFile: "FILE"}


class _Items(argparse.Action):
    """`--exclude a,b --exclude c` → [a, b, c]."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        items = [item for each in values.split(",") if (item := each.strip())]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *items])


class _Pairs(argparse.Action):
    """`--replace a=b --replace c=d` → {a: b, c: d}; the last `=` counts, as in the tag `=_=`.

    `const` makes the values of texts; where they are no texts, `IN04=8,M00=4` are two.
    """

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        pairs = [values] if self.const is str else values.split(",")
        made = dict(map(self._pair, pairs))
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **made})

    def _pair(self, pair: str) -> tuple[str, Any]:
        name, equals, text = pair.rpartition("=")
        if not equals or not name:
            raise argparse.ArgumentError(self, f"`{pair}`: write {self.metavar}")
        try:
            return name, self.const(text)
        except ValueError:
            raise argparse.ArgumentError(self, f"`{text}` is no number") from None
