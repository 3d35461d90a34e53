"""The two bases of every Struct on the wire: what comes in is strict, what goes out may grow."""

from typing import Any

import msgspec


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something a host or user wrote: unknown fields are refused, so that a typo is never silent."""


class Params(Strict, frozen=True, kw_only=True):
    """The params of a method. `ext` is the one place for fields that this contract does not know."""

    ext: dict[str, Any] = {}


class Reply(msgspec.Struct, kw_only=True):
    """Something a kernel says: hosts ignore fields that they do not know."""
