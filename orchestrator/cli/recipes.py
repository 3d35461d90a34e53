"""Recipes: in a TOML file, its paths told from where it lies, and inside of what was made from one."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.errors import FileMissing, FileUnreadable, SettingsInvalid
from contract.methods.merge import MergeSettings, Recipe
from contract.methods.weights import RECIPE_KEY, WeightsFile
from contract.rules.paths import from_wire, to_wire
from orchestrator.cli.weights import SUFFIX
from orchestrator.jobs.settings_tree import replaced, structs_in
from orchestrator.models.header import HeaderInvalid, read_header
from orchestrator.settings import decode_table, read_toml

#: The table with everything that is no model and no step.
_MERGE: Final = "merge"
_TABLES: Final = (_MERGE, "models", "steps")


def read_recipe(path: Path) -> Recipe:
    """A recipe in TOML: `[merge]` with `output` and the rest, `[models.NAME]`, `[steps.NAME]`.

    A model may be written as its path alone, and one that a step bakes in as its name in [models]. Raises
    SettingsInvalid with every field that is wrong.
    """
    tables = read_toml(path)
    if strange := sorted(tables.keys() - {*_TABLES}):
        known = ", ".join(f"[{each}]" for each in _TABLES)
        raise SettingsInvalid(
            f"{to_wire(str(path))}: [{strange[0]}] is no table of a recipe; it has {known}.", where=strange[0]
        )
    said = tables.get(_MERGE, {})
    if not isinstance(said, dict):
        raise SettingsInvalid(f"{to_wire(str(path))}: `{_MERGE}` is a table.", where=_MERGE)
    rest = {name: tables[name] for name in _TABLES if name in tables and name != _MERGE}
    whole = {**said, **rest, "type": "recipe"}
    folder = os.path.dirname(os.path.abspath(path))
    return decode_table(
        replaced(Recipe, _with_named_loras(whole), lambda *each: _told_from(folder, *each)), Recipe, path
    )


def _with_named_loras(recipe: dict[str, Any]) -> dict[str, Any]:
    """LoRAs that stand among the models become the steps' own: the models of a recipe are checkpoints."""
    models, steps = recipe.get("models"), recipe.get("steps")
    if not isinstance(models, dict) or not isinstance(steps, dict):
        return recipe
    loras: set[str] = set()
    for step in steps.values():
        for lora in _tables(step, "loras"):
            if isinstance(name := lora.get("model"), str) and name in models:
                lora["model"] = models[name]
                loras.add(name)
    used = {name for step in steps.values() for name in _inputs(step)} | {recipe.get("output")}
    return recipe | {"models": {name: each for name, each in models.items() if name not in loras - used}}


def _tables(step: Any, name: str) -> list[dict[str, Any]]:
    items = step.get(name) if isinstance(step, dict) else None
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


def _inputs(step: Any) -> list[str]:
    items = step.get("inputs") if isinstance(step, dict) else None
    return [each for each in items if isinstance(each, str)] if isinstance(items, list) else []


def output_beside(path: Path) -> str:
    """Where the output of a recipe goes that says no other: beside it, by its name; as it travels."""
    return to_wire(os.path.abspath(path.with_suffix(SUFFIX)))


def embedded_recipe(path: Path, folders: list[str]) -> Any:
    """The settings in the metadata of an output, with its models as they are found: beside it, or anywhere in
    `folders`. Raises FileMissing, FileUnreadable and SettingsInvalid."""
    named = to_wire(str(path))
    text = metadata_of(path).get(RECIPE_KEY)
    if text is None:
        raise SettingsInvalid(f"{named} has no recipe in its metadata.", where=named)
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise SettingsInvalid(f"The recipe in {named} is not JSON.", where=named) from None
    wanted: Any = MergeSettings
    decode_table(said, wanted, path)
    places = {
        where: _found(value, path, folders)
        for struct, value, where in structs_in(wanted, said)
        if struct is WeightsFile
    }
    whole = replaced(wanted, said, lambda struct, value, where: places.get(where, value))
    return msgspec.convert(whole, wanted)


def _told_from(folder: str, struct: type[msgspec.Struct], value: Any, where: str) -> Any:
    if struct is not WeightsFile:
        return value
    model = {"path": value} if isinstance(value, str) else value
    if not isinstance(model, dict) or not isinstance(model.get("path"), str):
        return model
    path = os.path.join(folder, os.path.expanduser(from_wire(model["path"])))
    return model | {"path": to_wire(os.path.normpath(path))}


def metadata_of(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself. Raises FileMissing and FileUnreadable."""
    named = to_wire(str(path))
    try:
        return read_header(str(path)).metadata
    except FileNotFoundError:
        raise FileMissing(f"There is no file {named}.", where=named) from None
    except OSError as error:
        raise FileUnreadable(f"{named}: {os.strerror(error.errno or 0)}.", where=named) from None
    except HeaderInvalid as error:
        raise FileUnreadable(f"{named} is no whole safetensors file. {error}", where=named) from None


def _found(value: dict[str, Any], beside: Path, folders: list[str]) -> dict[str, Any]:
    """The file that is meant, by its name and, where there are several of that name, by its hash."""
    name = from_wire(value["path"]).replace("\\", "/").rpartition("/")[2]
    there = list(dict.fromkeys(of_that_name(name, beside, folders)))
    if not there:
        raise FileMissing(
            f"The recipe needs {to_wire(name)}, which is not beside {to_wire(beside.name)}.",
            where=to_wire(name),
            hint="Say where its models are: --models DIR.",
        )
    wanted = value.get("sha256")
    fitting = [path for path in there if len(there) == 1 or wanted is None or sha256_of(path) == wanted]
    # Of one that does not fit the kernel says so.
    return value | {"path": to_wire((fitting or there)[0])}


def of_that_name(
    name: str, beside: Path, folders: Iterable[str], *, is_folder: bool = False
) -> Iterator[str]:
    """The files of a name beside another and anywhere in `folders`, or the folders of that name."""
    folder = os.path.dirname(os.path.abspath(beside))
    is_there = os.path.isdir if is_folder else os.path.isfile
    if is_there(path := os.path.join(folder, name)):
        yield path
    for each in folders:
        for parent, inside, names in os.walk(os.path.abspath(each)):
            if name in (inside if is_folder else names):
                yield os.path.join(parent, name)


def sha256_of(path: str) -> str | None:
    """That of a file, as lower-case hex; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
