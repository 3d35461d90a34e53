"""Files of weights as people write them on a command line, and how much of each is meant."""

import argparse
import os
import re
from typing import Any, Final

from contract.rules.paths import from_wire, to_wire
from orchestrator.cli.flags import weights_file

SUFFIX: Final = ".safetensors"
#: Of the argument that `new_file` reads.
OUT_HELP: Final = f"the file to make; {SUFFIX} is added where it is missing"

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NAMED: Final = r"[A-Za-z]\w*=[^,=]+"
#: What may follow the last colon of a file: its weight, then others by name. No path of Windows ends so.
_WEIGHTS: Final = re.compile(
    rf"(?P<weight>{_NUMBER})(?P<more>(?:,{_NAMED})*)|(?P<only>{_NAMED}(?:,{_NAMED})*)"
)
_COMPONENTS: Final = ("unet", "te1", "te2", "te3")
_BLOCKS: Final = "blocks"


def existing_file(text: str) -> str:
    """A path to read from, absolute, as it travels."""
    return weights_file(text)["path"]


def new_file(text: str) -> str:
    """A path to write to, absolute, as it travels; `.safetensors` is added where it is missing."""
    if not text:
        raise argparse.ArgumentTypeError("name a file")
    path = os.path.abspath(os.path.expanduser(text))
    if text.endswith(("/", os.sep)) or os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"`{text}` is a folder; name a file in it")
    return to_wire(path if path.lower().endswith(SUFFIX) else path + SUFFIX)


def weighted_lora(text: str) -> dict[str, Any]:
    """`FILE[:WEIGHT][,unet=W][,te1=W][,IN04=W]` as a WeightedLora."""
    path, weight, named = _parts(text)
    components = {name: _number(each) for name, each in named.items() if name in _COMPONENTS}
    blocks = {name: _number(each) for name, each in named.items() if name not in _COMPONENTS}
    made: dict[str, Any] = {"model": weights_file(path)} | weight
    return made | ({"components": components} if components else {}) | ({"blocks": blocks} if blocks else {})


def weighted_model(text: str) -> dict[str, Any]:
    """`FILE[:WEIGHT][,blocks=PRESET]` as a WeightedModel; `blocks=0/0.5/1` gives the values themselves."""
    path, weight, named = _parts(text)
    if unknown := sorted(named.keys() - {_BLOCKS}):
        raise argparse.ArgumentTypeError(f"`{unknown[0]}`: a checkpoint has a weight, and `{_BLOCKS}`")
    made: dict[str, Any] = {"model": weights_file(path)} | weight
    return made | ({"blocks": _values(named[_BLOCKS])} if named else {})


def folder_of(path: str) -> str:
    """The folder of a file that is named as it travels, as this system names it; links are followed."""
    return os.path.dirname(os.path.realpath(from_wire(path)))


def _parts(text: str) -> tuple[str, dict[str, float], dict[str, str]]:
    """The path, the weight where there is one, and what is named. A file that is called so wins."""
    path, colon, rest = text.rpartition(":")
    if not colon or not path or _is_file(text):
        return text, {}, {}
    if (found := _WEIGHTS.fullmatch(rest)) is None:
        if _is_file(path):
            raise argparse.ArgumentTypeError(f"`{rest}` behind `{path}` is no weight, as `0.8` is one")
        return text, {}, {}
    weight = {} if found["weight"] is None else {"weight": float(found["weight"])}
    named = found["more"] or found["only"] or ""
    pairs = (each.partition("=") for each in named.split(",") if each)
    return path, weight, {name: value for name, _, value in pairs}


def _is_file(text: str) -> bool:
    return os.path.isfile(os.path.expanduser(text))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is no number") from None


def _values(text: str) -> list[float] | str:
    try:
        return [float(each) for each in text.split("/")]
    except ValueError:
        return text
