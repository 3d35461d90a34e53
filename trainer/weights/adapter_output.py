"""What the modules of a new adapter are written as: tensors, their names, their alphas and their range."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from contract.errors import WeightsUnsupported
from contract.methods.weights import AlphaRule
from contract.rules.paths import to_wire
from trainer.weights.adapter_keys import AdapterNaming, Role, key
from trainer.weights.tensor_writer import TensorSpec

if TYPE_CHECKING:
    import torch

#: Largest and smallest normal number of the types that a factor may leave (IEEE 754; OCP 8-bit formats).
_RANGES: Final = {
    "F32": (2.0**128 - 2.0**104, 2.0**-126),
    "BF16": (2.0**128 - 2.0**120, 2.0**-126),
    "F16": (65504.0, 2.0**-14),
    "F8_E4M3": (448.0, 2.0**-6),
    "F8_E5M2": (57344.0, 2.0**-14),
}
#: Those that leave most of what a float can be.
_WIDE: Final = frozenset({"F32", "BF16"})
#: Significant bits of the types that alphas are rounded to; all others hold a Python float as it is.
_PRECISION: Final = {"F32": 24, "F16": 11, "BF16": 8, "F8_E4M3": 4, "F8_E5M2": 3}
#: How far above the smallest normal number the typical number of a column should be, so that those around it
#: keep their digits.
_HEADROOM: Final = 16.0


class ModuleOut(NamedTuple):
    """One LoRA module of an output: `name` as in its naming, `shape` of the weight that it changes.

    ΔW = alpha ÷ rank · up · down; `alpha` None: no alpha is written, which every program reads as the rank.
    `up`, `down` and `alpha_type` are codes of safetensors.
    """

    name: str
    shape: tuple[int, ...]
    rank: int
    alpha: float | None
    up: str
    down: str
    alpha_type: str

    def key(self, role: Role, naming: AdapterNaming) -> str:
        """The key of one of its tensors."""
        return key(self.name, role, naming)

    def specs(self, naming: AdapterNaming) -> list[TensorSpec]:
        """Its tensors: up (out, r), down (r, in), the kernels behind those of a convolution; alpha."""
        ones = (1,) * len(self.shape[2:])
        specs = [
            TensorSpec(self.key("up", naming), self.up, (self.shape[0], self.rank, *ones)),
            TensorSpec(self.key("down", naming), self.down, (self.rank, *self.shape[1:])),
        ]
        if self.alpha is not None:
            specs.append(TensorSpec(self.key("alpha", naming), self.alpha_type, ()))
        return specs


class Scaling(NamedTuple):
    """The alpha that is written, as its type rounds it, and the number that U·S is multiplied with so that
    ΔW is what it was."""

    alpha: float | None
    factor: float


def even_alpha(modules: Iterable[tuple[float, int]]) -> float:
    """The alpha that all modules of an adapter can share: the commonest of scale · rank, of equals the first.

    `modules` are pairs of scale and rank. One alpha is what every program reads right: diffusers 0.42 gives
    modules of U-Nets and text encoders the commonest alpha of a file in kohya's names, whatever their own.
    """
    counts = Counter(abs(scale) * rank for scale, rank in modules if scale)
    return max(counts, key=counts.__getitem__, default=1.0)


def scaling(rule: AlphaRule, scale: float, rank: int, code: str, *, has_alpha: bool, even: float) -> Scaling:
    """What becomes of `scale` in ΔW = scale · up · down at the new `rank`; `even` is the alpha of that rule.

    Without `has_alpha` none is written, whatever the rule, and the factors take it up: names of peft have
    none, and diffusers refuses files in them that do. An alpha that its type rounds to nothing, or cannot
    hold, gives way to the rank.
    """
    wanted = {"even": even, "proportional": scale * rank, "rank": float(rank), "one": 1.0}[rule]
    if not has_alpha:
        return Scaling(None, scale)
    alpha = rounded(wanted, code)
    if not math.isfinite(alpha) or alpha == 0:
        alpha = rounded(float(rank), code)
    return Scaling(alpha, scale * rank / alpha)


def rounded(value: float, code: str) -> float:
    """`value` as a number of the type `code` is (to nearest, ties to even); infinite beyond its range."""
    if code not in _PRECISION or value == 0:
        return value
    largest, smallest = _RANGES[code]
    exponent = max(math.frexp(value)[1], math.frexp(smallest)[1]) - _PRECISION[code]
    nearest = math.ldexp(round(math.ldexp(value, -exponent)), exponent)
    return nearest if abs(nearest) <= largest else math.copysign(math.inf, value)


def balance(norms: "torch.Tensor", rows: int, code: str, down: str | None = None) -> "torch.Tensor | None":
    """Powers of two (k,) to multiply the columns of `up` with, and divide the rows of `down` by.

    `norms` are the norms of the columns, `rows` how many numbers they have; the rows of `down` have norm 1.
    None where all columns lie within the range of `code` as they are. Else a column that does not shares its
    norm with its row: no bit is lost by a power of two, and many would be by overflow or underflow. Where
    the type `down` of the rows ends at larger numbers than `code`, small columns keep what they have.
    """
    import torch

    if code not in _RANGES:
        return None
    largest, smallest = _RANGES[code]
    low, high = smallest * _HEADROOM * math.sqrt(rows), largest / 2
    outside = ((norms < low) | (norms > high)) & (norms > 0)
    if not bool(outside.any()):
        return None
    if _RANGES.get(down or code, (0.0, 0.0))[1] > smallest:
        outside = norms > high
    shift = -torch.round(torch.log2(norms.clamp_min(2.0**-1022)) / 2)
    return torch.exp2(torch.where(outside, shift, 0.0))


def stored(tensor: "torch.Tensor", code: str, key: str, path: str) -> "torch.Tensor":
    """`tensor` in the type `code`, on the CPU and contiguous, as it is written under `key` to `path`.

    Raises WeightsUnsupported where a number lies beyond the range of the type.
    """
    from trainer.weights.dtypes import short_name, torch_dtype

    if code in _RANGES and not _within(tensor, _RANGES[code][0]):
        where = to_wire(path)
        raise WeightsUnsupported(
            f"`{key}` of `{where}` would have numbers beyond {_RANGES[code][0]:g}, the largest of "
            f"{short_name(code)}.",
            where=where,
            hint=None if code in _WIDE else "Choose `bf16` or `fp32` for the type of the numbers.",
            details={"key": key},
        )
    return tensor.to(torch_dtype(code)).contiguous().cpu()


def _within(tensor: "torch.Tensor", largest: float) -> bool:
    low, high = tensor.aminmax()
    return -largest <= float(low) and float(high) <= largest
