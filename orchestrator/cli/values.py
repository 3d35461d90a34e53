"""Values as people write them on a command line and in files: TOML, and plain words without quotes."""

import argparse
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from contract.errors import FileMissing, FileUnreadable, FileUnwritable, SettingsInvalid
from contract.rules.paths import to_wire


def value_of(text: str) -> Any:
    """`0.4`, `true`, `["a", "b"]`, `{ id = "x" }` as in TOML or JSON; anything else is the text itself."""
    try:
        table = tomllib.loads(f"value = {text}")
        # More than one line would be more than one value.
        return table["value"] if table.keys() == {"value"} else text
    except tomllib.TOMLDecodeError:
        pass
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text


def assignment(text: str) -> tuple[str, Any]:
    """`general_threshold=0.4` as a name and a value; for argparse."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"`{text}`: write NAME=VALUE")
    return name.strip(), value_of(value.strip())


def nested(assignments: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """`a.b=1` as {a: {b: 1}}. Raises SettingsInvalid where one name is a value and a table."""
    whole: dict[str, Any] = {}
    for name, value in assignments:
        *tables, last = name.split(".")
        table = whole
        for each in tables:
            table = table.setdefault(each, {})
            if not isinstance(table, dict):
                raise SettingsInvalid(f"`{each}` cannot be a value and a table at once.", where=name)
        table[last] = value
    return whole


def dotted(table: dict[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    """{a: {b: 1}} as `a.b` and 1."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def as_toml(table: dict[str, Any]) -> str:
    """A TOML document. Raises SettingsInvalid for what TOML has no words for."""
    import tomlkit

    try:
        return tomlkit.dumps(table)
    except (ValueError, TypeError):
        raise SettingsInvalid(
            "TOML has no word for nothing (null).", hint="Name a .json file instead."
        ) from None


def shown(value: Any) -> str:
    """A value as `value_of` takes it; nothing for none."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def read_table(path: Path) -> dict[str, Any]:
    """The table of a TOML or JSON file. Raises FileMissing, FileUnreadable and SettingsInvalid."""
    named = to_wire(str(path))
    try:
        raw = path.read_bytes()
        if path.suffix.lower() == ".json":
            return msgspec.json.decode(raw, type=dict[str, Any])
        return tomllib.loads(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        raise FileMissing(f"There is no file {named}.", where=named) from None
    except OSError as error:
        raise FileUnreadable(f"{named}: {os.strerror(error.errno or 0)}.", where=named) from None
    except (ValueError, msgspec.DecodeError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise SettingsInvalid(f"{named} is not {kind}: {error}.", where=named) from None


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Write a new TOML or JSON file, by its ending. Raises FileUnwritable, DiskFull and SettingsInvalid."""
    is_json = path.suffix.lower() == ".json"
    text = msgspec.json.format(msgspec.json.encode(table)).decode() + "\n" if is_json else as_toml(table)
    write_new(path, text.encode())


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet. Raises FileUnwritable and DiskFull."""
    from orchestrator.files.durable import replace

    if path.exists():
        named = to_wire(str(path))
        raise FileUnwritable(f"{named} is there already.", where=named, hint="Name another file.")
    replace(path, data)
