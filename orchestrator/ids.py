"""Ids that sort by the time they were made: a prefix and a ULID (github.com/ulid/spec)."""

import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 26
_RANDOM_BITS: Final = 80


def new_id(prefix: str) -> str:
    """Such as `job_01JD4Q6T9V3XK2M8N5R7W0Y1Z4`."""
    return f"{prefix}_{new_ulid()}"


def new_ulid() -> str:
    """26 characters: the moment, then chance."""
    return _encoded(int(time.time() * 1000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def derived_id(prefix: str, ulid: str, number: int) -> str:
    """The `number`th id made of `ulid`: the same moment, and the same id whenever it is asked for."""
    import hashlib

    chance = int.from_bytes(hashlib.sha256(f"{ulid}/{prefix}/{number}".encode()).digest()[:10])
    return f"{prefix}_{ulid[:10]}{_encoded(chance)[10:]}"


def _encoded(value: int) -> str:
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_LENGTH)))
