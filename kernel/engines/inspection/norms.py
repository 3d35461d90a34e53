"""‖ΔW‖ of the modules of an adapter, by the factors, so that ΔW is formed as seldom as possible.

- A product of two factors: ‖up · down‖² = ⟨upᵀ·up, down·downᵀ⟩, from two r × r matrices.
- A Kronecker product: ‖w₁ ⊗ w₂‖ = ‖w₁‖ · ‖w₂‖.
- A Hadamard product of two products has no such form that is smaller than itself, and goes row by row.
- A DoRA: that of its low-rank part; what its magnitudes do depends on the weight.

All in float64, and in numpy: to load torch would take longer than to look at most files.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from kernel.engines.inspection.numbers import Matrix, gram, numbers, wide
from trainer.weights.adapter_file import Adapter, AdapterModule

#: Numbers of a file, of any type.
_Stored = npt.NDArray[np.generic]
_Kind = TypeVar("_Kind", bound=np.generic)

#: Rows of ΔW that are formed at once: a few MB for the widest weights.
_ROWS: Final = 256


def norm(adapter: Adapter, module: AdapterModule) -> float | None:
    """‖ΔW‖ (Frobenius) of one module with alpha ÷ rank; NaN or infinite where its numbers are, None for types
    whose ΔW cannot be told without the model. Raises what reading the file raises."""
    compute = _NORMS.get(module.network)
    # Of what is not finite the sum is not finite either, which is what it is to be.
    with np.errstate(all="ignore"):
        return None if compute is None else compute(adapter, module)


def together(norms: list[float]) -> float:
    """The norm of several ΔW as one."""
    return math.sqrt(math.fsum(each * each for each in norms))


def _low_rank(adapter: Adapter, module: AdapterModule) -> float:
    keys: Mapping[str, str] = module.keys  # type: ignore[assignment]  # roles are texts
    up, down = _stored(adapter, keys["up"]), _stored(adapter, keys["down"])
    if (core := keys.get("mid")) is not None:
        down = _through(_wide(adapter, core), wide(down))
    return abs(module.scale) * _product(_matrix(up), _matrix(down))


def _product(up: _Stored, down: _Stored) -> float:
    # Rounding may leave a tiny negative number where the product is zero.
    return math.sqrt(max(float((gram(up) * gram(down.T)).sum()), 0.0)) if up.shape[1] else 0.0


def _hadamard(adapter: Adapter, module: AdapterModule) -> float:
    first = _pair(adapter, module, "1")
    second = _pair(adapter, module, "2")
    squares = 0.0
    for start in range(0, first[0].shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        part = (first[0][rows] @ first[1]) * (second[0][rows] @ second[1])
        squares += float(np.square(part).sum())
    return abs(module.scale) * math.sqrt(squares)


def _pair(adapter: Adapter, module: AdapterModule, number: str) -> tuple[Matrix, Matrix]:
    """The factors (out, r) and (r, in · kh · kw) of one half of a LoHa."""
    keys: Mapping[str, str] = module.keys  # type: ignore[assignment]  # roles are texts
    left = _wide(adapter, keys[f"hada_w{number}_a"])
    right = _wide(adapter, keys[f"hada_w{number}_b"])
    if (core := keys.get(f"hada_t{number}")) is not None:
        return left.T, _through(_wide(adapter, core), right)
    return left, _matrix(right)


def _kronecker(adapter: Adapter, module: AdapterModule) -> float:
    return abs(module.scale) * _half(adapter, module, "1") * _half(adapter, module, "2")


def _half(adapter: Adapter, module: AdapterModule, number: str) -> float:
    keys: Mapping[str, str] = module.keys  # type: ignore[assignment]  # roles are texts
    if (whole := keys.get(f"lokr_w{number}")) is not None:
        return _size(_wide(adapter, whole))
    left = _wide(adapter, keys[f"lokr_w{number}_a"])
    right = _wide(adapter, keys[f"lokr_w{number}_b"])
    if (core := keys.get(f"lokr_t{number}")) is not None:
        return _product(left.T, _through(_wide(adapter, core), right))
    return _product(left, _matrix(right))


def _through(core: Matrix, right: Matrix) -> Matrix:
    """A Tucker core (r, r, kh, kw) with its right factor (r, in) in it: (r, in · kh · kw)."""
    kernel = core.reshape(*core.shape[:2], -1)
    filled: Matrix = np.tensordot(kernel, _matrix(right), axes=(1, 0))
    return filled.transpose(0, 2, 1).reshape(core.shape[0], -1)


def _whole(adapter: Adapter, module: AdapterModule) -> float | None:
    key = module.keys.get("diff", module.keys.get("w_norm"))
    return None if key is None else _size(_wide(adapter, key))


def _size(some: Matrix) -> float:
    return float(np.linalg.norm(some.reshape(-1)))


def _matrix(some: npt.NDArray[_Kind]) -> npt.NDArray[_Kind]:
    """(out, in · kh · kw) of a weight."""
    return some.reshape(some.shape[0], math.prod(some.shape[1:]))


def _stored(adapter: Adapter, key: str) -> _Stored:
    return numbers(adapter.file, key)


def _wide(adapter: Adapter, key: str) -> Matrix:
    return wide(_stored(adapter, key))


_NORMS: Final[Mapping[str, Callable[[Adapter, AdapterModule], float | None]]] = {
    "lora": _low_rank,
    "locon": _low_rank,
    "dora": _low_rank,
    "loha": _hadamard,
    "lokr": _kronecker,
    "full": _whole,
    "norm": _whole,
}
