"""Random numbers that belong to their place: the same whatever is computed before, beside or in pieces."""

import hashlib
from typing import Final

import numpy as np
import torch

#: Philox gives four 64-bit numbers a step of its counter, each of which makes two of 24 bits here.
_STEP: Final = 8
#: A 24-bit integer times this is a share from 0 to just below 1, exactly.
_SCALE: Final = 2.0**-24


def uniform(seed: int, name: str, stream: int, start: int, count: int) -> torch.Tensor:
    """fp32 [count], uniform from 0 to below 1: the numbers `start` to `start` + `count` of a sequence that
    follows from seed, tensor and stream.

    Source: Philox4x64-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a
    generator whose state is a counter, so that any place of the sequence is reached at once.
    """
    key = hashlib.sha256(f"{seed}\0{stream}\0{name}".encode("utf-8", "surrogatepass")).digest()
    first, skipped = divmod(start, _STEP)
    counter = np.array([first, 0, 0, 0], np.uint64)
    bits = np.random.Philox(key=np.frombuffer(key[:16], "<u8"), counter=counter)
    steps = -(-(skipped + count) // _STEP)
    # As bytes of a fixed order: a machine of the other one shall draw the same.
    words = bits.random_raw(steps * 4).astype("<u8", copy=False).view("<u4")
    drawn = words[skipped : skipped + count]
    return torch.from_numpy((drawn >> np.uint32(8)).astype(np.float32) * np.float32(_SCALE))
