"""Chance that can be repeated: every draw has a name, and what it gives depends on its name alone.

A run that goes on at step N needs no draw of the steps before it, and no state of a generator is ever saved.
"""

import hashlib
from random import Random


def draws(seed: int, *name: str | int) -> Random:
    """The source of chance of this name, such as `draws(seed, "caption", epoch, picture)`.

    SHA-256 and not `hash`, which differs from process to process for texts.
    """
    words = "\0".join(map(str, (seed, *name)))
    return Random(int.from_bytes(hashlib.sha256(words.encode()).digest(), "big"))
