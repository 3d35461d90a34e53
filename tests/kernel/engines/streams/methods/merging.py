"""Calls a method as the stream does: whole, or piece by piece."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from kernel.engines.streams.methods import METHODS, Arguments, Piece

Numbers = NDArray[np.float64]


def tensors(count: int, *shape: int, seed: int = 0) -> list[torch.Tensor]:
    """fp32 tensors of a normal distribution."""
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source) for _ in range(count)]


def exact(each: Sequence[torch.Tensor]) -> list[Numbers]:
    """The same numbers in float64, for formulas that are no code of the studio."""
    return [one.double().numpy() for one in each]


def merged(
    name: str,
    inputs: Sequence[torch.Tensor],
    arguments: Arguments | None = None,
    *,
    step: int = 1 << 30,
    tensor: str = "t",
) -> torch.Tensor:
    """The result of a method, in pieces of `step` numbers where it works in pieces."""
    arguments = arguments or Arguments(weights=(1.0,) * len(inputs))
    method, shape = METHODS[name](), tuple(inputs[0].shape)
    about = Piece(tensor, shape)
    if method.needs_whole:
        return method.whole(list(inputs), arguments, about)
    flat = [each.reshape(-1) for each in inputs]
    out, grain = torch.full_like(flat[0], float("nan")), method.grain(shape)
    step = max(step // grain, 1) * grain
    starts = range(0, len(out), step)

    def read() -> Iterator[list[torch.Tensor]]:
        yield from ([each[start : start + step] for each in flat] for start in starts)

    if method.looks:
        about = about._replace(facts=method.look(read, arguments, about))
    for start, parts in zip(starts, read(), strict=True):
        method.combine(parts, out[start : start + step], arguments, about._replace(start=start))
    return out.view(shape)


def close(found: torch.Tensor, wanted: Numbers, within: float = 1e-5) -> None:
    """Relative Frobenius error."""
    error = np.linalg.norm(found.double().numpy() - wanted) / max(float(np.linalg.norm(wanted)), 1e-30)
    assert error <= within, error
