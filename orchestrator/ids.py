"""Ids that sort by the time they were made: a prefix and a ULID (github.com/ulid/spec)."""

import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 26
_RANDOM_BITS: Final = 80


def new_id(prefix: str) -> str:
    """Such as `job_01JD4Q6T9V3XK2M8N5R7W0Y1Z4`."""
    value = int(time.time() * 1000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return f"{prefix}_" + "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_LENGTH)))
