"""What is said in several places, as one: defaults, below a preset, below a file, below the command line.

A table is laid over the one below it field by field, and lists replace lists. Where something else is chosen
above, such as another optimizer, what the choice below said goes with it.
"""

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from contract.methods.training.loop import Training
from contract.methods.training.optimizer import CustomOptimizer
from contract.methods.training.sampling import Sampling
from contract.methods.training.schedule import WarmUp
from contract.methods.training.source import TrainSource
from contract.methods.weights import WeightsFile

#: Of a table: a field, and those that go where it is given another value.
_TAKES_THE_PLACE: Final[Mapping[type[msgspec.Struct], Mapping[str, str]]] = {
    WeightsFile: {"path": "sha256"},
    Training: {"epochs": "steps", "steps": "epochs"},
    CustomOptimizer: {"import_name": "arguments"},
    WarmUp: {"warmup_steps": "warmup_share", "warmup_share": "warmup_steps"},
    TrainSource: {"dataset": "folders", "folders": "dataset"},
    Sampling: {"prompts": "file", "file": "prompts"},
}


def layered(wanted: Any, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """`layers` of a `wanted` as one, each over those before it, and said of every choice what is chosen.

    The layers need not fit: what is meant for nothing stays, for whoever decodes it.
    """
    whole: Any = {}
    for layer in layers:
        whole = _over(_Place(wanted, None), whole, layer)
    tagged: dict[str, Any] = _tagged(_Place(wanted, None), whole)
    return tagged


class _Place(NamedTuple):
    """Where a value stands: the type that is wanted there, and the tag of what is there by default."""

    wanted: Any
    tag: str | int | None


_ANYWHERE: Final = _Place(Any, None)


def _over(place: _Place, below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    struct = _meant(place, {**below, **above})
    if struct is not _meant(place, below):
        return above
    inside = _inside(struct)
    merged = {
        **below,
        **{name: _over(inside.get(name, _ANYWHERE), below.get(name), each) for name, each in above.items()},
    }
    gone = {other for name, other in _replacing(struct) if name in above and above[name] != below.get(name)}
    return {name: each for name, each in merged.items() if name in above or name not in gone}


def _tagged(place: _Place, value: Any) -> Any:
    struct = _meant(place, value) if isinstance(value, Mapping) else None
    if struct is None:
        return value
    inside, config = _inside(struct), struct.__struct_config__
    whole = {name: _tagged(inside.get(name, _ANYWHERE), each) for name, each in value.items()}
    return whole if config.tag_field is None else {config.tag_field: config.tag, **whole}


def _meant(place: _Place, value: Mapping[str, Any]) -> type[msgspec.Struct] | None:
    """The Struct that a table is meant for; None for a table of other things."""
    for struct in _structs(place.wanted):
        config = struct.__struct_config__
        if config.tag_field is None or config.tag == value.get(config.tag_field, place.tag):
            return struct
    return None


def _structs(wanted: Any) -> Iterator[type[msgspec.Struct]]:
    """The Structs among the arms of a type."""
    if typing.get_origin(wanted) is typing.Annotated:
        yield from _structs(typing.get_args(wanted)[0])
    elif typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for arm in typing.get_args(wanted):
            yield from _structs(arm)
    elif isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        yield wanted


@functools.cache
def _inside(struct: type[msgspec.Struct] | None) -> Mapping[str, _Place]:
    """The fields of a Struct by their names."""
    if struct is None:
        return {}
    hints = typing.get_type_hints(struct, include_extras=True)
    return {
        each.name: _Place(hints[each.name], _tag_of(each.default)) for each in msgspec.structs.fields(struct)
    }


def _tag_of(default: Any) -> str | int | None:
    tag: str | int | None = default.__struct_config__.tag if isinstance(default, msgspec.Struct) else None
    return tag


def _replacing(struct: type[msgspec.Struct] | None) -> Iterator[tuple[str, str]]:
    for base, pairs in _TAKES_THE_PLACE.items():
        if struct is not None and issubclass(struct, base):
            yield from pairs.items()
