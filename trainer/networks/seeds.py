"""Seeds of random numbers that follow from what they are for, and from nothing that was drawn before."""

import hashlib
from typing import Final

#: Seeds of torch are signed numbers of 64 bits.
_BYTES: Final = 8
_POSITIVE: Final = (1 << 63) - 1


def seed_of(*parts: int | str) -> int:
    """A seed for what `parts` say: the run's own seed, the purpose, the step, the name. 0 to 2⁶³ − 1."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=_BYTES).digest()
    return int.from_bytes(digest, "little") & _POSITIVE
