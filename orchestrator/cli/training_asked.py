"""What `lorakeet train` is asked for: its file, what lies below that, and what the flags say over it."""

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.errors import SettingsInvalid
from contract.methods.train_file import TrainFile
from contract.rules.paths import to_wire
from orchestrator.cli.training_file import Layer, told_from, training_of
from orchestrator.cli.values import nested, read_table


async def asked_for(arguments: argparse.Namespace) -> TrainFile:
    """The training. Raises SettingsInvalid, FileMissing, FileUnreadable and NotFound."""
    path = _config(arguments)
    name = {"output": {"name": path.stem}}
    preset = [await _preset(arguments)] if arguments.preset else []
    file = Layer(to_wire(str(path)), _told_from_beside(path, read_table(path), arguments.queue))
    layers = [Layer("the name of the file", name), *preset, file, *_flags(arguments)]
    return training_of(layers, file.said_in)


def _config(arguments: argparse.Namespace) -> Path:
    if arguments.config is None and (arguments.resume or "").endswith(".toml"):
        # `train --resume cat.toml`, which argparse cannot tell from a checkpoint.
        arguments.config, arguments.resume = arguments.resume, ""
    if arguments.config is None:
        raise SettingsInvalid(
            "Name the file with the settings: lorakeet train CONFIG.toml.", where="CONFIG.toml"
        )
    return Path(arguments.config)


def _told_from_beside(path: Path, tables: Mapping[str, Any], names: bool) -> dict[str, Any]:
    """The studio knows its models by names, too."""
    return told_from(os.path.dirname(os.path.abspath(path)), tables, names=names)


def _flags(arguments: argparse.Namespace) -> Iterator[Layer]:
    here = os.getcwd()
    yield Layer("--set", told_from(here, nested(arguments.assignments), names=arguments.queue))
    if arguments.name is not None:
        yield Layer("--name", {"output": {"name": arguments.name}})
    if arguments.folders:
        yield Layer("--folder", told_from(here, {"source": {"folders": arguments.folders}}))
    if arguments.overwrite:
        yield Layer("--overwrite", {"output": {"overwrite": True}})


async def _preset(arguments: argparse.Namespace) -> Layer:
    """A preset in a file, or one that the studio keeps."""
    # Only this needs the API.
    from orchestrator.cli.api import api
    from orchestrator.cli.presets import found

    name: str = arguments.preset
    said_in = f"preset {name}"
    if (tables := _in_file(name, arguments.queue)) is not None:
        return Layer(said_in, tables)
    async with api(arguments.home) as studio:
        return Layer(said_in, (await found(studio, name, "train"))["settings"])


def _in_file(preset: str, names: bool) -> dict[str, Any] | None:
    from orchestrator.cli.presets import read_preset

    path = Path(preset).expanduser()
    if path.suffix.lower() not in (".toml", ".json") or not path.is_file():
        return None
    return _told_from_beside(path, read_preset(path, "train").settings, names)
