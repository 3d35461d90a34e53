"""The studio's settings: `settings.toml` in the data directory, refused with its name and field if wrong."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from contract.base import Strict
from contract.errors import InvalidParams, SettingsInvalid
from contract.fields import field
from contract.handshake import MAX_IMAGE_PIXELS
from contract.rules.paths import to_wire
from contract.validation import decode

FILE = "settings.toml"

T = TypeVar("T", bound=msgspec.Struct)


class KernelSettings(Strict, frozen=True, kw_only=True):
    """`[kernel]`."""

    command: Annotated[
        list[str] | None, field("Command", "Program and arguments that start a kernel.", detail="advanced")
    ] = None


class LimitSettings(Strict, frozen=True, kw_only=True):
    """`[limits]`."""

    max_image_pixels: Annotated[
        int,
        field(
            "Largest image",
            "Images with more pixels are refused before they are decoded.",
            unit="pixels",
            ge=1,
        ),
    ] = MAX_IMAGE_PIXELS


class Settings(Strict, frozen=True, kw_only=True):
    """Everything in `settings.toml`."""

    kernel: KernelSettings = KernelSettings()
    limits: LimitSettings = LimitSettings()


def load(home: Path) -> Settings:
    """The settings of a data directory; the defaults where there is no file. Raises SettingsInvalid."""
    path = home / FILE
    return decode_table(read_toml(path), Settings, path) if path.exists() else Settings()


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises SettingsInvalid, with the line where there is one."""
    named = to_wire(str(path))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsInvalid(
            f"{named} cannot be read: {os.strerror(error.errno or 0)}.", where=named
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{named} is not TOML: {error}.", where=named) from None


def decode_table(table: dict[str, Any], wanted: type[T], source: object) -> T:
    """`table` as a `wanted`. Raises SettingsInvalid that names `source` and every field that is wrong."""
    try:
        return decode(table, wanted, path="")
    except InvalidParams as error:
        problems = [
            {"where": each["where"].removeprefix("."), "message": each["message"]}
            for each in error.details["problems"]
        ]
        lines = "; ".join(f"{each['where']}: {each['message']}" for each in problems)
        raise SettingsInvalid(
            f"{to_wire(str(source))}: {lines}.", where=problems[0]["where"], details={"problems": problems}
        ) from None
