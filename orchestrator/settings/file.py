"""`settings.toml` on the disk: read with every problem named, written so that a user's own words stay."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from contract.errors import InvalidParams, SettingsInvalid
from contract.rules.paths import to_wire
from contract.validation import Problem, decode, invalid
from orchestrator.files import durable
from orchestrator.settings.tables import Settings

FILE: Final = "settings.toml"

T = TypeVar("T", bound=msgspec.Struct)


def load(home: Path) -> Settings:
    """The settings of a data directory; the defaults where there is no file. Raises SettingsInvalid."""
    path = home / FILE
    if not path.exists():
        return Settings()
    settings = decode_table(read_toml(path), Settings, path)
    try:
        check(settings, home, "")
    except InvalidParams as error:
        raise _of_file(error, path) from None
    return settings


def save(home: Path, settings: Settings) -> None:
    """Write the settings of a data directory; comments and order of the file that is there are kept.

    Raises DiskFull, FileUnwritable, and SettingsInvalid where the file that is there is no TOML.
    """
    from orchestrator.settings.document import rewritten

    # A link to where a user keeps such files stays one.
    path = Path(os.path.realpath(home / FILE))
    old = _read(path) if path.exists() else ""
    durable.replace(path, rewritten(old, settings, path).encode())


def check(settings: Settings, home: Path, path: str) -> None:
    """Raises InvalidParams for folders that a studio of this data directory may not have."""
    if problems := [
        Problem(f"{path}.{where}", "contains the data directory; name a folder beside it or in it")
        for where, folder in _folders(settings)
        if home_is_in(home, folder)
    ]:
        raise invalid(problems)


def home_is_in(home: Path, folder: str) -> bool:
    """Whether `folder` is the data directory or has it inside, links followed."""
    real = Path(os.path.realpath(home))
    return Path(os.path.realpath(folder)) in (real, *real.parents)


def _folders(settings: Settings) -> Iterator[tuple[str, str]]:
    for index, root in enumerate(settings.roots):
        yield f"roots[{index}].path", root.folder
    for index, folder in enumerate(settings.model_folders):
        yield f"model_folders[{index}].path", folder.folder


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises SettingsInvalid, with the line where there is one."""
    text = _read(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise not_toml(path, error) from None


def not_toml(path: Path, why: Exception) -> SettingsInvalid:
    """What a user is told of a file that cannot be understood."""
    named = to_wire(str(path))
    return SettingsInvalid(f"{named} is not TOML: {why}.", where=named)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        named = to_wire(str(path))
        why = os.strerror(error.errno or 0)
        raise SettingsInvalid(f"{named} cannot be read: {why}.", where=named) from None
    except UnicodeDecodeError as error:
        raise not_toml(path, error) from None


def decode_table(table: dict[str, Any], wanted: type[T], source: object) -> T:
    """`table` as a `wanted`. Raises SettingsInvalid that names `source` and every field that is wrong."""
    try:
        return decode(table, wanted, path="")
    except InvalidParams as error:
        raise _of_file(error, source) from None


def _of_file(error: InvalidParams, source: object) -> SettingsInvalid:
    problems = [
        {"where": each["where"].removeprefix("."), "message": each["message"]}
        for each in error.details["problems"]
    ]
    lines = "; ".join(f"{each['where']}: {each['message']}" for each in problems)
    return SettingsInvalid(
        f"{to_wire(str(source))}: {lines}.", where=problems[0]["where"], details={"problems": problems}
    )
