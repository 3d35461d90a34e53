"""How large a file will be, and the highest rank or value with which it is no larger than asked for."""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import Final

from contract.errors import InvalidParams
from contract.rules.tensor_header import Tensor, data_bytes, encode_header, library_order
from trainer.weights.hashes import LEGACY_HASH, MODEL_HASH
from trainer.weights.tensor_writer import TensorSpec

MB: Final = 1_000_000
#: Halvings of a value's range: the rest is beyond what eight digits of it show.
_HALVINGS: Final = 30
#: The largest value of `sv_ratio` that is tried: a spectrum of half precision is noise long before.
_MAX_RATIO: Final = 1e9
_WHERE: Final = "$.params.settings.target_size_mb"


def file_bytes(specs: Sequence[TensorSpec], metadata: Mapping[str, str]) -> int:
    """The size of the file that a TensorWriter makes of an adapter, header and hashes included."""
    tensors, end = {}, 0
    for spec in sorted(specs, key=lambda each: library_order(each.dtype, each.name)):
        start, end = end, end + data_bytes(spec.dtype, spec.shape)
        tensors[spec.name] = Tensor(dtype=spec.dtype, shape=list(spec.shape), data_offsets=(start, end))
    hashes = {MODEL_HASH: "0" * 64, LEGACY_HASH: "0" * 8}
    return len(encode_header(tensors, dict(metadata) | hashes)) + end


def highest_rank(size_of: Callable[[int], int], most: int, limit_mb: float) -> int:
    """The highest rank up to `most` whose file is within the limit. Raises InvalidParams."""
    _check(size_of(1), limit_mb)
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size_of(middle) <= limit_mb * MB else (low, middle)
    return low


def highest_value(size_of: Callable[[float], int], method: str, limit_mb: float) -> float:
    """The highest value of a dynamic method whose file is within the limit. Raises InvalidParams."""
    low, high = (1 + 1e-9, _MAX_RATIO) if method == "sv_ratio" else (1e-9, 1.0)
    _check(size_of(low), limit_mb)
    if size_of(high) <= limit_mb * MB:
        return high
    for _ in range(_HALVINGS):
        # Halving the logarithm: a ratio has no scale of its own.
        middle = exp((log(low) + log(high)) / 2) if method == "sv_ratio" else (low + high) / 2
        low, high = (middle, high) if size_of(middle) <= limit_mb * MB else (low, middle)
    return low


def _check(least: int, limit_mb: float) -> None:
    if least > limit_mb * MB:
        raise InvalidParams(
            f"The file cannot be smaller than {least / MB:.3f} MB; {limit_mb:g} MB were asked for.",
            where=_WHERE,
            details={"least_mb": least / MB},
        )
