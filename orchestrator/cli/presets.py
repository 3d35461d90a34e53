"""`lorakeet presets VERB`: partial settings with a name, kept by the studio or in files."""

import argparse
from pathlib import Path
from typing import Any

from contract.base import Strict
from contract.errors import NotFound, SettingsInvalid
from contract.rules.paths import to_wire
from orchestrator.cli.api import JSON, Api
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.cli.table import lines
from orchestrator.cli.values import as_toml, assignment, nested, read_table, write_table
from orchestrator.cli.verbs import Verb, add_verbs, run
from orchestrator.settings import decode_table

__all__ = ["add", "run"]


class PresetFile(Strict, frozen=True, kw_only=True):
    """A preset in a file of its own."""

    kind: str
    name: str
    description: str = ""
    settings: dict[str, Any] = {}


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    add_verbs(
        parser,
        (
            Verb("list", "every preset", _list, _kind),
            Verb("show", "one preset with its settings", _show, _named),
            Verb("create", "a new preset", _create, _new),
            Verb("export", "write a preset into a file", _export, _to_file),
            Verb("import", "make presets from files", _import, _from_files),
            Verb("delete", "forget a preset; jobs made with it keep their settings", _delete, _named),
        ),
    )


def _kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", help="only those for this kind of job, such as tag")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", metavar="NAME|ID", help="name or id of the preset")
    _kind(parser)


def _new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what it is called")
    parser.add_argument("assignments", nargs="*", type=assignment, metavar="SETTING=VALUE")
    parser.add_argument("--kind", default="tag", help="the kind of job that it is for. Default: tag.")
    parser.add_argument("--description", default="", help="what it is good for")
    parser.add_argument(
        "--settings", metavar="FILE", help="settings in a TOML or JSON file; SETTING=VALUE wins"
    )


def _to_file(parser: argparse.ArgumentParser) -> None:
    _named(parser)
    parser.add_argument(
        "file", nargs="?", help="a new file that ends in .toml or .json. Default: TOML on stdout."
    )


def _from_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="TOML or JSON, as `export` writes it")
    parser.add_argument("--replace", action="store_true", help="replace presets of the same kind and name")


async def _list(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    rows = []
    async for preset in studio.all("/presets", kind=arguments.kind):
        output.event("preset", preset=preset)
        rows.append((preset["kind"], preset["name"], preset["id"], preset["description"]))
    for line in lines(rows):
        output.say(line)
    return Exit.DONE


async def _show(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    preset = await found(studio, arguments.preset, arguments.kind)
    output.event("preset", preset=preset)
    output.say(as_toml(_as_file(preset)).rstrip())
    return Exit.DONE


async def _create(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    given = read_table(Path(arguments.settings)) if arguments.settings else {}
    _say_made(
        await studio.post(
            "/presets",
            {
                "kind": arguments.kind,
                "name": arguments.name,
                "description": arguments.description,
                "settings": given | nested(arguments.assignments),
            },
        ),
        output,
    )
    return Exit.DONE


async def _export(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    preset = await found(studio, arguments.preset, arguments.kind)
    table = _as_file(preset)
    if arguments.file is None:
        output.say(as_toml(table).rstrip())
    else:
        write_table(Path(arguments.file), table)
    output.event("exported", preset=preset, file=arguments.file)
    return Exit.DONE


async def _import(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    # All are read before the first is made, so that a wrong one changes nothing.
    files = [decode_table(read_table(Path(name)), PresetFile, name) for name in arguments.files]
    for each in files:
        old = await _maybe(studio, each.name, each.kind) if arguments.replace else None
        body = {"name": each.name, "description": each.description, "settings": each.settings}
        if old is None:
            made = await studio.post("/presets", {"kind": each.kind, **body})
        else:
            _, etag = await studio.read(f"/presets/{old['id']}")
            made = await studio.change("PUT", f"/presets/{old['id']}", body, etag)
        _say_made(made, output)
    return Exit.DONE


async def _delete(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    preset = await found(studio, arguments.preset, arguments.kind)
    _, etag = await studio.read(f"/presets/{preset['id']}")
    await studio.delete(f"/presets/{preset['id']}", etag)
    output.event("deleted", id=preset["id"])
    output.say(f"{preset['name']} is deleted.")
    return Exit.DONE


def _say_made(preset: JSON, output: Output) -> None:
    output.event("preset", preset=preset)
    output.say(f"{preset['name']} ({preset['kind']}) is {preset['id']}.")


async def found(studio: Api, name: str, kind: str | None) -> JSON:
    """A preset by its name or id. Raises NotFound, and SettingsInvalid for a name that two kinds have."""
    preset = await _maybe(studio, name, kind)
    if preset is None:
        raise NotFound(f"There is no preset {name}.", where=name, hint="`lorakeet presets list` shows all.")
    return preset


async def _maybe(studio: Api, name: str, kind: str | None) -> JSON | None:
    found = [each async for each in studio.all("/presets", kind=kind) if name in (each["id"], each["name"])]
    if len(found) > 1:
        kinds = ", ".join(each["kind"] for each in found)
        raise SettingsInvalid(
            f"Several presets are named {name}: for {kinds}.", hint="Say which with --kind."
        )
    return found[0] if found else None


def read_preset(path: Path, kind: str) -> PresetFile:
    """A preset of that kind in a file. Raises FileMissing, FileUnreadable and SettingsInvalid."""
    preset = decode_table(read_table(path), PresetFile, path)
    if preset.kind != kind:
        raise SettingsInvalid(
            f"{to_wire(str(path))} is a preset for {preset.kind}, not for {kind}.", where="kind"
        )
    return preset


def _as_file(preset: JSON) -> JSON:
    return {name: preset[name] for name in ("kind", "name", "description", "settings")}
