"""`lorakeet reproduce FILE`: the settings that a LoRA was trained with, as the file that trains it again."""

import argparse
import os
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from contract.errors import FileMissing, FileUnreadable, SettingsInvalid, WeightsMismatch
from contract.methods.training.recipe import (
    FileField,
    TrainRecipe,
    WantedFile,
    as_training_table,
    decode_recipe,
    wanted_files,
)
from contract.methods.weights import RECIPE_KEY
from contract.rules.paths import from_wire, to_wire
from orchestrator.cli.exits import Exit
from orchestrator.cli.flags import weights_file
from orchestrator.cli.output import Output
from orchestrator.cli.recipes import metadata_of, of_that_name, sha256_of
from orchestrator.cli.training_pictures import Compared, compared
from orchestrator.cli.values import as_toml, write_new
from orchestrator.cli.weights import SUFFIX, existing_file
from orchestrator.models.layouts import MADE, OWN
from orchestrator.settings import load

_BASE: Final[FileField] = "model.base"
_FIRST: Final = ("source", "output", "model", "training", "network")


def add(parser: argparse.ArgumentParser) -> None:
    """The LoRA, and where to find what it was made from."""
    parser.add_argument("file", metavar="FILE", type=existing_file, help="a LoRA that Lorakeet trained")
    parser.add_argument(
        "-o", "--out", metavar="CONFIG.toml", help="a new file for the settings. Default: they are printed."
    )
    parser.add_argument(
        "--base",
        metavar="MODEL",
        type=lambda text: weights_file(text)["path"],
        help="the model that it was trained on. Default: looked for by its name",
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        dest="folders",
        action="append",
        default=[],
        help="a folder of the pictures that it was trained on. May be given several times",
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder to look for models in, beside those that the studio knows",
    )


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Write the settings. Raises LorakeetError."""
    recipe = _recipe(arguments.file)
    files = {
        each.field: path for each in wanted_files(recipe) if (path := _path(each, arguments)) is not None
    }
    missing = [each for each in wanted_files(recipe) if each.field not in files]
    folders = [weights_file(each)["path"] for each in arguments.folders]
    pictures = compared(recipe, folders)
    tables = _in_order(as_training_table(recipe, files=files, folders=folders))
    out: str | None = arguments.out
    if out is not None:
        write_new(Path(out), as_toml(tables).encode())
    output.event(
        "reproduced",
        settings=tables,
        file=out,
        recipe=recipe,
        missing=[{"field": each.field, "name": each.name, "sha256": each.sha256} for each in missing],
        lost_pictures=pictures.lost,
        other_captions=pictures.other_captions,
    )
    if out is None:
        output.say(as_toml(tables).rstrip())
    for line in _warnings(recipe, missing, pictures, folders):
        output.note(f"warning: {line}", "yellow")
    if out is not None:
        rest = "" if folders else " --folder DIR"
        output.say(f"lorakeet train {to_wire(out)}{rest} --set output.folder=DIR")
    return Exit.DONE


def _in_order(tables: dict[str, Any]) -> dict[str, Any]:
    """With what people change first at the top."""
    rest = {name: each for name, each in tables.items() if name not in _FIRST and each != []}
    return {name: tables[name] for name in _FIRST if name in tables} | rest


def _recipe(file: str) -> TrainRecipe:
    text = metadata_of(Path(from_wire(file))).get(RECIPE_KEY)
    if text is None:
        raise SettingsInvalid(
            f"{file} does not say how it was trained.",
            where=file,
            hint="Lorakeet's own LoRAs do, unless `metadata.recipe` was off.",
        )
    return decode_recipe(text, file)


# The models ------------------------------------------------------------------------------------------------


def _path(wanted: WantedFile, arguments: argparse.Namespace) -> str | None:
    """Where the file is, as it travels. Raises FileMissing and WeightsMismatch for one that was named."""
    if wanted.field == _BASE and arguments.base is not None:
        _check_is(arguments.base, wanted)
        return str(arguments.base)
    name = from_wire(wanted.name)
    beside, folders = Path(from_wire(arguments.file)), [*_known_folders(arguments), *arguments.models]
    by_name = of_that_name(name, beside, folders, is_folder=wanted.is_folder)
    # Of a file that was renamed only its content tells; so much is read only of folders that were named.
    for path in (*by_name, *([] if wanted.is_folder else _weights_in(arguments.models))):
        if wanted.is_folder or wanted.sha256 in (None, sha256_of(path)):
            return to_wire(path)
    return None


def _check_is(path: str, wanted: WantedFile) -> None:
    local = from_wire(path)
    if not os.path.lexists(local):
        raise FileMissing(f"There is no file {path}.", where=path)
    if wanted.is_folder or os.path.isdir(local) or wanted.sha256 is None:
        return
    if (sha256 := sha256_of(local)) is None:
        raise FileUnreadable(f"{path} cannot be read.", where=path)
    if sha256 != wanted.sha256:
        raise WeightsMismatch(
            f"{path} is not the file that it was trained on, which was called {wanted.name}.",
            where=path,
            details={"sha256": sha256, "expected": wanted.sha256},
        )


def _known_folders(arguments: argparse.Namespace) -> Iterator[str]:
    yield from (str(arguments.home / name) for name in (OWN, MADE))
    yield from (each.folder for each in load(arguments.home).model_folders)


def _weights_in(folders: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        for parent, _, names in os.walk(os.path.abspath(folder)):
            yield from (os.path.join(parent, name) for name in sorted(names) if name.endswith(SUFFIX))


# What may be different -------------------------------------------------------------------------------------


def _warnings(
    recipe: TrainRecipe, missing: Sequence[WantedFile], there: Compared, folders: Sequence[str]
) -> Iterator[str]:
    for each in missing:
        how = "--base or --models" if each.field == _BASE else "--models"
        yield f"{each.field}: {each.name} was not found; say where it is with {how}."
    pictures = recipe.pictures
    if not folders:
        yield f"Its {pictures.count} pictures come from folders that it does not name; --folder does."
    elif there.lost:
        yield f"{there.lost} of its {pictures.count} pictures are not in the folders, or were changed."
    if other := there.other_captions:
        which = other[0] if len(other) == 1 else f"{other[0]} and {len(other) - 1} more"
        yield f"Other captions than it was trained with: {which}."
    if recipe.continued:
        yield "It went on from a checkpoint of another training, which these settings alone do not repeat."
    yield from _other_versions(recipe)


def _other_versions(recipe: TrainRecipe) -> Iterator[str]:
    for name, then in recipe.versions.items():
        try:
            now = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if now != then:
            yield f"It was made with {name} {then}, here is {now}: the last bits may be others."
