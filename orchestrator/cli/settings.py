"""`lorakeet settings VERB`: what stands in settings.toml, by its names, such as `limits.max_image_pixels`."""

import argparse
from typing import Any

from contract.errors import NotFound
from orchestrator.cli.api import Api
from orchestrator.cli.exits import Exit
from orchestrator.cli.output import Output
from orchestrator.cli.table import lines
from orchestrator.cli.values import dotted, nested, shown, value_of
from orchestrator.cli.verbs import Verb, add_verbs, nothing, run

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    """The verbs."""
    add_verbs(
        parser,
        (
            Verb("list", "every setting and what it is", _list, nothing),
            Verb("get", "one setting", _get, _name),
            Verb("set", "change a setting", _set, _name_and_value),
            Verb("unset", "let a setting have its default again", _unset, _name),
        ),
    )


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="such as limits.max_image_pixels, or a whole table such as limits")


def _name_and_value(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("value", help='as in TOML or JSON: 0.5, true, ["a", "b"]; a text needs no quotes')


async def _list(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    rows = list(dotted(await studio.get("/settings")))
    for name, value in rows:
        output.event("setting", name=name, value=value)
    for line in lines([(name, shown(value)) for name, value in rows]):
        output.say(line)
    return Exit.DONE


async def _get(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    value = _found(await studio.get("/settings"), arguments.name)
    output.event("setting", name=arguments.name, value=value)
    output.say(shown(value))
    return Exit.DONE


async def _set(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    return await _change(arguments.name, value_of(arguments.value), studio, output)


async def _unset(arguments: argparse.Namespace, studio: Api, output: Output) -> Exit:
    return await _change(arguments.name, None, studio, output)


async def _change(name: str, value: Any, studio: Api, output: Output) -> Exit:
    _, etag = await studio.read("/settings")
    changed = await studio.change("PATCH", "/settings", nested([(name, value)]), etag)
    now = _found(changed, name)
    output.event("setting", name=name, value=now)
    output.say(f"{name} is {shown(now) or 'not set'}.")
    return Exit.DONE


def _found(settings: Any, name: str) -> Any:
    value = settings
    for each in name.split("."):
        if not isinstance(value, dict) or each not in value:
            raise NotFound(
                f"There is no setting {name}.", where=name, hint="`lorakeet settings list` shows all."
            )
        value = value[each]
    return value
