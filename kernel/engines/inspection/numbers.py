"""The numbers of a file as numpy has them: a look needs no torch, which takes a second or two to load."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.weights.tensor_file import TensorFile

Matrix = npt.NDArray[np.float64]

#: The code of a safetensors file → numpy's type; of others torch knows what they are.
_TYPES: Final[Mapping[str, str]] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
}
#: Numbers that are widened at once: what they become fits into a core's cache.
_PART: Final = 1 << 17


def numbers(file: TensorFile, name: str) -> npt.NDArray[np.generic]:
    """A tensor in its shape, float64, float32 or float16, uncopied where it is stored so.

    Not for writing. Raises WeightsChanged where the file became shorter, and WeightsUnsupported.
    """
    facts = file.header.tensors[name]
    code = _TYPES.get(facts.dtype)
    if code is None or not facts.bytes:
        found: npt.NDArray[np.generic] = file.tensor(name).double().numpy()
        return found
    flat = np.frombuffer(file.raw(name), dtype=code)
    if facts.dtype == "BF16":
        # The upper half of a number in single precision.
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(facts.shape)


def wide(some: npt.NDArray[np.generic]) -> Matrix:
    """As float64. Half precision goes through float32, which numpy converts faster."""
    if some.dtype == np.float16:
        some = some.astype(np.float32)
    return some.astype(np.float64, copy=False)


def gram(lines: npt.NDArray[np.generic]) -> Matrix:
    """linesᵀ · lines (r, r), of lines (n, r) of any type, a part of them at a time."""
    count, width = lines.shape
    total = np.zeros((width, width))
    step = max(1, _PART // max(width, 1))
    for start in range(0, count, step):
        part = wide(lines[start : start + step])
        total += part.T @ part
    return total
