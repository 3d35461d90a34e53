"""A training as people write it: a preset, below a file, below what is said on the command line.

Paths are told from where the file lies, or from where people stand. What is wrong is said with the file or
the flag that said it, and with what may have been meant.
"""

import difflib
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from contract.errors import InvalidParams, SettingsInvalid
from contract.fields import nested
from contract.methods.train_file import TrainFile, train_file
from contract.methods.training.layers import layered
from contract.methods.training.sampling import Sampling
from contract.methods.training.source import TrainSource, TrainTarget
from contract.methods.weights import WeightsFile
from contract.rules.paths import from_wire, to_wire

#: The fields that name files and folders, by their Structs.
PATHS: Final[Mapping[type[msgspec.Struct], str]] = {
    WeightsFile: "path",
    Sampling: "file",
    TrainSource: "folders",
    TrainTarget: "folder",
}
_UNKNOWN: Final = "is not a known field"
#: How alike two names must be for the one to be a slip of the other.
_ALIKE: Final = 0.7
#: A name behind a dot, a number in brackets, or a name in quotes and brackets.
_TOKEN: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[(\"(?:[^\"\\]|\\.)*\")\]")


class Layer(NamedTuple):
    """Tables that were said in one place; `said_in` is what people call it."""

    said_in: str
    tables: Mapping[str, Any]


def training_of(layers: Sequence[Layer], file: str) -> TrainFile:
    """The training that `layers` make, each over those before it; `file` is to blame for what none of them
    says. Raises SettingsInvalid with everything that is wrong."""
    try:
        return train_file(*(each.tables for each in layers))
    except InvalidParams as error:
        raise _told(error, layers, file) from None


def source_of(training: TrainFile) -> TrainSource:
    """Where the pictures are. Raises SettingsInvalid where that is not said."""
    if training.source is None:
        raise SettingsInvalid(
            "It is not said where the pictures are.",
            where="source",
            hint='Name their folder with --folder DIR, or in the file: [source] folders = ["DIR"].',
        )
    return training.source


def told_from(folder: str, tables: Mapping[str, Any], *, names: bool = False) -> dict[str, Any]:
    """`tables` with absolute paths, which were told from `folder`. A model may be its path alone, and with
    `names` the name of one where no file is."""
    whole: dict[str, Any] = _resolved((TrainFile,), tables, folder, names)
    return whole


def _resolved(structs: Sequence[type[msgspec.Struct]], value: Any, folder: str, names: bool) -> Any:
    """`value`, which is meant for one of `structs`."""
    if WeightsFile in structs and isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        return value
    return {
        name: _absolute(each, folder, names and WeightsFile in structs)
        if any(PATHS.get(struct) == name for struct in structs)
        else _resolved(_structs_at(structs, name), each, folder, names)
        for name, each in value.items()
    }


def _structs_at(structs: Sequence[type[msgspec.Struct]], name: str) -> tuple[type[msgspec.Struct], ...]:
    """What may stand in the field of that name."""
    hints = (typing.get_type_hints(struct).get(name) for struct in structs)
    return tuple(struct for hint in hints for struct in nested(hint))


def _absolute(value: Any, folder: str, names: bool) -> Any:
    if isinstance(value, list):
        return [_absolute(each, folder, names) for each in value]
    if not isinstance(value, str) or not value:
        return value
    path = os.path.abspath(os.path.join(folder, os.path.expanduser(from_wire(value))))
    return value if names and not os.path.lexists(path) else to_wire(path)


# What is wrong ----------------------------------------------------------------------------------------------


def _told(error: InvalidParams, layers: Sequence[Layer], file: str) -> SettingsInvalid:
    problems = [_problem(each["where"], each["message"], layers, file) for each in error.details["problems"]]
    lines = [f"{each['said_in']}: {each['where']}: {each['message']}" for each in problems]
    text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} settings are wrong:", *lines])
    return SettingsInvalid(text, where=problems[0]["where"], details={"problems": problems})


def _problem(where: str, message: str, layers: Sequence[Layer], file: str) -> dict[str, str]:
    tokens = list(_tokens(where))
    said_in = next((each.said_in for each in reversed(layers) if _says(each.tables, tokens)), file)
    if message == _UNKNOWN and tokens:
        message += _meant(tokens, layered(TrainFile, *(each.tables for each in layers)))
    return {"where": where.removeprefix("$").removeprefix("."), "message": message, "said_in": said_in}


def _tokens(where: str) -> Iterator[str | int]:
    """`$.optimizer.rates["te1"]` as its names and numbers."""
    for name, number, quoted in _TOKEN.findall(where):
        yield int(number) if number else str(msgspec.json.decode(quoted)) if quoted else name


def _says(value: Any, tokens: Sequence[str | int]) -> bool:
    """Whether tables have something at that place."""
    for token in tokens:
        inside = isinstance(value, Mapping) and token in value
        if not inside and not (isinstance(value, list) and isinstance(token, int) and token < len(value)):
            return False
        value = value[token]
    return bool(tokens)


def _meant(tokens: Sequence[str | int], tables: Any) -> str:
    """What somebody may have meant who wrote a field that does not exist."""
    structs: tuple[type[msgspec.Struct], ...] = (TrainFile,)
    for token in tokens[:-1]:
        tables = tables[token]
        structs = structs if isinstance(token, int) else _chosen(_structs_at(structs, token), tables)
    wrong, known = str(tokens[-1]), _names(structs)
    if close := difflib.get_close_matches(wrong, known, 1, _ALIKE):
        return f"; did you mean `{close[0]}`?"
    # Of one and the same table another `type` may have the field, which helps nobody.
    own = ".".join(str(token) for token in tokens[:-1] if not isinstance(token, int))
    if others := [table for table, names in _tables() if wrong in names and table != own]:
        return f"; it stands in {' or '.join(f'[{each}]' for each in others)}"
    return f"; there are {', '.join(known)}" if known else ""


def _chosen(structs: Sequence[type[msgspec.Struct]], value: Any) -> tuple[type[msgspec.Struct], ...]:
    """Those that a value may be meant for by its tag."""
    configs = [each.__struct_config__ for each in structs]
    return tuple(
        struct
        for struct, config in zip(structs, configs, strict=True)
        if config.tag_field is None
        or not isinstance(value, dict)
        or value.get(config.tag_field) == config.tag
    )


def _names(structs: Sequence[type[msgspec.Struct]]) -> list[str]:
    return list(dict.fromkeys(name for struct in structs for name in struct.__struct_fields__))


def _tables(
    structs: Sequence[type[msgspec.Struct]] = (TrainFile,), above: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Every table of a training, with the names of its fields."""
    for name in _names(structs):
        inside = tuple(each for each in _structs_at(structs, name) if each is not WeightsFile)
        if inside:
            yield above + name, _names(inside)
            yield from _tables(inside, f"{above}{name}.")
