"""The rank rules of `LoRA resize` in the reference on kohya's formats, written without a look at ours.

S has min(out, in) values; k by rule, clamped to 1 … len(S) − 1, one more, capped; S₀ ≤ 1e-6 is rank 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]


def expected_rank(spectrum: Values, method: str, value: float | None, cap: int) -> int:
    """The rank of a module; `spectrum` is of up · down without alpha ÷ rank, by falling value."""
    if spectrum[0] <= 1e-6:
        return 1
    if method == "fixed":
        return cap
    assert value is not None
    if method == "sv_ratio":
        k = int(np.count_nonzero(spectrum > spectrum[0] / value))
    elif method == "sv_cumulative":
        k = int(np.argmax(np.cumsum(spectrum) / spectrum.sum() >= value)) + 1
    else:
        squares = spectrum**2
        k = int(np.argmax(np.cumsum(squares) / squares.sum() >= value**2)) + 1
    return min(int(np.clip(k, 1, len(spectrum) - 1)) + 1, cap)
