"""A settings file rewritten: what changed is changed in it, comments and order of the rest stay.

Loaded only where something is written, since tomlkit takes a while to load.
"""

import operator
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from orchestrator.settings.file import not_toml
from orchestrator.settings.tables import Settings

#: What tells an item of a list of tables from the others, so that each keeps its comments.
_IDENTITIES: Final = ("id", "path")


def rewritten(old: str, settings: Settings, path: Path) -> str:
    """The text that says `settings`: `old`, with as little of it changed as that takes.

    What is not in `old` and has its default is not written. Raises SettingsInvalid if `old` is no TOML.
    """
    wanted, usual = msgspec.to_builtins(settings), msgspec.to_builtins(Settings())
    try:
        document = tomlkit.parse(old)
    except TOMLKitError as error:
        raise not_toml(path, error) from None
    try:
        _fill(document, wanted, usual)
        text = tomlkit.dumps(document)
    except TOMLKitError:
        text = ""
    return text if _says(text, settings) else _afresh(wanted, usual)


def _says(text: str, settings: Settings) -> bool:
    """Whether a file of `text` is read as these settings."""
    try:
        return msgspec.convert(tomllib.loads(text), Settings) == settings
    except (tomllib.TOMLDecodeError, msgspec.ValidationError):
        return False


def _afresh(wanted: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """Where a file is written in a way that cannot be changed piece by piece, what it says counts most."""
    document = tomlkit.document()
    _fill(document, wanted, usual)
    return tomlkit.dumps(document)


def _fill(table: Any, wanted: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Make `table` say `wanted`; it need not say what is `usual`."""
    for name, value in wanted.items():
        if value is None or value == []:
            table.pop(name, None)
        elif name not in table and value == usual.get(name):
            continue
        elif isinstance(value, dict):
            if name not in table:
                table[name] = tomlkit.table()
            _fill(table[name], value, usual[name])
        elif name not in table or _plain(table[name]) != value:
            _put(table, name, value)


def _plain(item: Any) -> Any:
    # A truth has no item of its own.
    return item.unwrap() if hasattr(item, "unwrap") else item


def _put(table: Any, name: str, value: Any) -> None:
    if not (isinstance(value, list) and isinstance(value[0], dict)):
        table[name] = value
        return
    old = list(table[name]) if name in table else []
    tables = [_item(each, old) for each in value]
    if isinstance(table.get(name), AoT) and all(map(operator.is_, tables, old)):
        # None was moved or removed: those that follow are new.
        table[name].extend(tables[len(old) :])
        return
    table[name] = aot = tomlkit.aot()
    aot.extend(tables)


def _item(wanted: Mapping[str, Any], old: Sequence[Any]) -> Any:
    """The table of an item: the one it had, by its identity, or a new one."""
    identity = next(name for name in _IDENTITIES if name in wanted)
    known = (each for each in old if isinstance(each, Table) and each.get(identity) == wanted[identity])
    table = next(known, None) or tomlkit.table()
    _fill(table, wanted, {})
    return table
