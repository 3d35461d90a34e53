"""What the numbers of an output are written as, and whether they fit."""

from typing import Final

import torch

from contract.errors import LorakeetError, WeightsUnsupported
from contract.methods.weights import CheckpointDtype
from kernel.engines.streams.expressions import Expression, Leaf, largest, not_finite
from kernel.engines.streams.parts import PartName
from trainer.weights.dtypes import SHORT_NAMES, short_name, torch_dtype

#: Types of one byte.
_FP8: Final = frozenset((SHORT_NAMES["fp8_e4m3fn"], SHORT_NAMES["fp8_e5m2"]))
#: What stays beside fp8 matrices is written in 16 bits.
_HALF: Final = ("F16", "BF16")


def output_code(
    wanted: CheckpointDtype, name: str, part: PartName, leaf: Leaf, *, is_table: bool = False
) -> str:
    """The type that a tensor is written in; `leaf` is the first input that has it.

    Tables and whole numbers stay what they are. fp8 is for the matrices and convolutions of the U-Net or
    transformer, which ComfyUI and Forge cast back as they compute with them. Biases, norms, text encoders and
    the VAE stay what they are, or become fp16 where they are fp32. Published fp8 files of FLUX have biases
    and norms in fp8, too; programs read either, it saves one byte in a thousand, and three bits of mantissa
    are too few where a number acts on a whole channel.
    """
    if not leaf.is_float or wanted == "keep" or is_table:
        return leaf.code
    code = SHORT_NAMES[wanted]
    if code not in _FP8 or (part == "unet" and _is_matrix(name, leaf.shape)):
        return code
    return leaf.code if leaf.code in (*_HALF, *_FP8) else _HALF[0]


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and name.endswith(".weight") and "norm" not in name and "embedding" not in name


class Limit:
    """The largest number of a type, and a cheap look whether all numbers of a piece are below it."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._most = torch.finfo(torch_dtype(code)).max

    def check(self, values: torch.Tensor, expression: Expression) -> None:
        """`values`, fp32 [n], of `expression`. Raises WeightsNotFinite and WeightsUnsupported."""
        # One pass at the speed of memory: were a number too large, or none, its square were so, too.
        if float(torch.dot(values, values)) <= min(self._most * self._most, _SQUARES):
            return
        most = largest(values)
        if not most <= self._most:
            raise self._error(most, expression)

    def _error(self, most: float, expression: Expression) -> LorakeetError:
        if not most < float("inf"):
            return not_finite(expression)
        leaf = expression.leaf
        return WeightsUnsupported(
            f"`{leaf.key}` would have numbers up to {most:.6g}; {short_name(self._code)} ends at "
            f"{self._most:.6g}.",
            where=leaf.file.where,
            details={"key": leaf.key, "largest": most},
            hint="Write bf16 or fp32.",
        )


#: The largest sum of squares that is surely none that grew over in fp32.
_SQUARES: Final = float(torch.finfo(torch.float32).max)
