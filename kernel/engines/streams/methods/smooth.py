"""Smooth add difference, and the two filters that it is made of."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import torch

from kernel.engines.streams.methods.method import Arguments, Method, Piece

#: Places of the Gaussian on either side: 4 deviations of 1.
_REACH: Final = 4
#: exp(−x²/2) for x from −4 to 4, scaled to a sum of 1.
_BELL: Final = [math.exp(-(place**2) / 2) for place in range(-_REACH, _REACH + 1)]
_WEIGHTS: Final = [each / sum(_BELL) for each in _BELL]
#: Numbers whose medians are found at once: with the sorted lists of their neighbours some 7 MB.
_AT_ONCE: Final = 1 << 14
#: On a GPU it is the number of steps that counts, not a cache: some 500 MB.
_AT_ONCE_ON_GPU: Final = 1 << 20
#: Numbers that are smoothed at once.
_SMOOTHED: Final = 1 << 18

#: Numbers at many places at a time: at each place the first is the smallest, the last the largest.
Sorted = list[torch.Tensor]


class SmoothAdd(Method):
    """A + α·gaussian(median(B − C)): the difference without its outliers, which add up to burnt pictures.

    Source: SuperMerger's smoothAdd: `median_filter` of size 3 and `gaussian_filter` of sigma 1, both of
    scipy.ndimage: a median over 3 places and a Gaussian of deviation 1, cut off at 4, along every axis of the
    tensor, its borders mirrored.
    """

    name = "smooth_add"
    needs_whole = True

    def whole(self, inputs: list[torch.Tensor], arguments: Arguments, piece: Piece) -> torch.Tensor:
        learned = inputs[1] - inputs[2]
        # Large, and not needed any more while the rest takes its time.
        del inputs[1:]
        (a,) = inputs
        if not a.dim():
            return a + learned * arguments.alpha
        smoothed = median(learned, piece.check)
        del learned
        smooth_(smoothed, piece.check)
        return smoothed.mul_(arguments.alpha).add_(a)


def median(tensor: torch.Tensor, check: Callable[[], None] = lambda: None) -> torch.Tensor:
    """The median of each number and its neighbours, 3 places along every axis.

    Three neighbours along an axis are sorted once, and their sorted lists merged along the next: a fraction
    of the work of sorting all neighbours of each number. The blocks are small enough for a cache.
    """
    found = torch.empty_like(tensor)
    for first, second in _blocks(tensor):
        check()
        block = tensor
        for axis, (start, end) in enumerate((first, second)[: tensor.dim()]):
            taken = [_mirrored(place, tensor.shape[axis]) for place in range(start - 1, end + 1)]
            block = block.index_select(axis, torch.tensor(taken, device=tensor.device))
        for axis in range(2, tensor.dim()):
            block = _padded(block, axis, 1)
        # Short axes first: runs of numbers are long that way, which is what vector units like.
        middle = _middle(block.movedim((0, 1), (-2, -1)).contiguous() if tensor.dim() > 2 else block)
        place = tuple(slice(*each) for each in (first, second)[: tensor.dim()])
        found[place] = middle.movedim((-2, -1), (0, 1)) if tensor.dim() > 2 else middle
    return found


def smooth_(tensor: torch.Tensor, check: Callable[[], None] = lambda: None) -> None:
    """Smooth a tensor in place, along every axis in turn, with exp(−x²/2), x from −4 to 4."""
    for axis, length in enumerate(tensor.shape):
        if length == 1:
            continue
        lines = tensor.view(math.prod(tensor.shape[:axis]), length, -1)
        # An axis is smoothed for some of the others' places at a time, so that little is held beside it.
        across = 2 if axis == 0 else 0
        step = max(_SMOOTHED * lines.shape[across] // tensor.numel(), 1)
        for start in range(0, lines.shape[across], step):
            check()
            part = lines.narrow(across, start, min(step, lines.shape[across] - start))
            padded = _padded(part, 1, _REACH)
            part.zero_()
            for place, weight in enumerate(_WEIGHTS):
                part.add_(padded.narrow(1, place, length), alpha=weight)


def _middle(padded: torch.Tensor) -> torch.Tensor:
    """The median of each window of 3 places along every axis; `padded` has one more at every border."""
    values: Sorted = [padded]
    *earlier, last = range(padded.dim())
    for axis in earlier:
        before, here, after = _neighbours(values, axis)
        values = _merged(_merged(before, here), after)
    before, here, after = _neighbours(values, last)
    pair, half = _merged(before, here), len(after) * 3 // 2
    # The number with `half` smaller ones, of i from the pair and half − i from the rest, is the smallest that
    # the larger of both can be.
    found = pair[half].clone()
    for rank, other in enumerate(after):
        torch.minimum(found, torch.maximum(pair[half - rank - 1], other), out=found)
    return found


def _neighbours(values: Sorted, axis: int) -> tuple[Sorted, Sorted, Sorted]:
    """The lists one place before, at, and one place behind each place but those at the borders."""
    length = values[0].shape[axis] - 2
    before, here, after = ([each.narrow(axis, start, length) for each in values] for start in range(3))
    return before, here, after


def _merged(a: Sorted, b: Sorted) -> Sorted:
    """Two sorted lists as one.

    Source: Batcher, "Sorting networks and their applications", 1968: odd-even merge, for any two lengths. It
    consists of minima and maxima only, so that all places are sorted at a time.
    """
    if not a or not b:
        return a or b
    if len(a) == len(b) == 1:
        return [torch.minimum(a[0], b[0]), torch.maximum(a[0], b[0])]
    even, odd = _merged(a[::2], b[::2]), _merged(a[1::2], b[1::2])
    merged = [even[0]]
    for index, low in enumerate(odd):
        if index + 1 == len(even):
            merged.append(low)
            continue
        high = even[index + 1]
        merged += [torch.minimum(low, high), torch.maximum(low, high)]
    return [*merged, *even[len(odd) + 1 :]]


def _mirrored(place: int, length: int) -> int:
    """A place outside of 0 … length − 1, mirrored at the edges: c b a | a b c | c b a."""
    place %= 2 * length
    return place if place < length else 2 * length - 1 - place


def _padded(tensor: torch.Tensor, axis: int, reach: int) -> torch.Tensor:
    """`reach` more places at both borders of an axis, as `_mirrored`."""
    length = tensor.shape[axis]
    taken = [_mirrored(place, length) for place in range(-reach, length + reach)]
    return tensor.index_select(axis, torch.tensor(taken, device=tensor.device))


def _blocks(tensor: torch.Tensor) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The first two axes in squares of so many numbers: start and end on either."""
    most = _AT_ONCE if tensor.device.type == "cpu" else _AT_ONCE_ON_GPU
    rows, columns = tensor.shape[0], tensor.shape[1] if tensor.dim() > 1 else 1
    at_once = max(most // math.prod(tensor.shape[2:]), 1)
    high = min(rows, max(math.isqrt(at_once), at_once // columns))
    wide = min(columns, max(at_once // high, 1))
    for first in range(0, rows, high):
        for second in range(0, columns, wide):
            yield (first, min(first + high, rows)), (second, min(second + wide, columns))
