"""Pages of long lists: a cursor says where the next one begins, and means nothing to anybody else."""

import base64
from typing import Annotated, Any, Final

import msgspec

from contract.base import Strict
from contract.errors import InvalidParams

MAX_PAGE: Final = 1_000

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description="Items on a page.")]
Cursor = Annotated[str, msgspec.Meta(max_length=512, description="`next_cursor` of the page before; opaque.")]


class PageQuery(Strict, frozen=True, kw_only=True):
    """Which page of a list."""

    limit: Limit = 100
    cursor: Cursor | None = None


def cursor_of(*place: Any) -> str:
    """The cursor that stands for `place`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str, *types: Any) -> tuple[Any, ...]:
    """What a cursor stands for. Raises InvalidParams for one that this list never gave."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=tuple[types])  # type: ignore[valid-type]
    except (ValueError, msgspec.DecodeError):
        raise InvalidParams(
            "$.query.cursor: not a cursor of this list",
            where="$.query.cursor",
            details={"problems": [{"where": "$.query.cursor", "message": "not a cursor of this list"}]},
        ) from None
