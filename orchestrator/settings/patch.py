"""The type of a change of the settings: every field may be left out, and null means the default."""

import typing
from typing import TYPE_CHECKING, Any, Union

import msgspec

from orchestrator.settings.tables import Settings


def patch_of(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The type of a merge patch (RFC 7396) of `struct`; lists are replaced as a whole."""
    hints = typing.get_type_hints(struct, include_extras=True)
    fields = [
        (each.encode_name, Union[_inner(hints[each.name]), None, msgspec.UnsetType], msgspec.UNSET)  # noqa: UP007
        for each in msgspec.structs.fields(struct)
    ]
    return msgspec.defstruct(
        f"{struct.__name__}Patch",
        fields,
        namespace={"__doc__": f"What of {struct.__name__} is to change; null takes the default."},
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
    )


def _inner(hint: Any) -> Any:
    is_table = isinstance(hint, type) and issubclass(hint, msgspec.Struct)
    return patch_of(hint) if is_table else hint


if TYPE_CHECKING:
    SettingsPatch = msgspec.Struct
else:
    SettingsPatch = patch_of(Settings)
