"""Where chance comes from: one seed a run, from LORAKEET_SEED or a new one, and a stream of it a trial."""

import os
import random
import secrets
from typing import Final

VARIABLE: Final = "LORAKEET_SEED"
SEED: Final = int(os.environ.get(VARIABLE) or secrets.randbelow(10**9))


def chance(name: str, number: int) -> random.Random:
    """The same for the same seed, name and number, whatever ran before."""
    return random.Random(f"{SEED}/{name}/{number}")
