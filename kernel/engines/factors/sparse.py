"""The ways to merge LoRAs that keep a part of the numbers of each ΔW: `ties` and `dare`."""

from collections.abc import Sequence
from hashlib import sha256
from math import ceil
from typing import Final

import numpy as np
import torch

from kernel.engines.factors import lowrank
from kernel.engines.factors.alignment import Piece, Target
from kernel.engines.factors.pieces import live
from kernel.engines.factors.spectra import Sum, Svd

#: Numbers that a draw of 16 bits can tell apart.
_DRAWS: Final = 1 << 16
#: Draws that one step of the Philox counter gives.
_DRAWS_A_STEP: Final = 16
_SIGN_CLEARED: Final = 0x7FFF


class Ties(Svd):
    """Trim each cᵢ·ΔWᵢ to its largest numbers, elect the sign of their sum, take the mean of those that have
    it (Yadav et al., "TIES-Merging", arXiv:2306.01708, algorithm 1 with weights in the place of λ).

    LoRAs that agree give their mean and not their sum: a LoRA with itself, both with weight 1, is itself.
    """

    def _is_sum(self, target: Target) -> bool:
        return False

    def _matrix(self, target: Target) -> lowrank.Matrix:
        return _Elected([_Trimmed(part, self._settings.density) for part in self._parts(target).values()])

    def _parts(self, target: Target) -> dict[int, Sum]:
        """cᵢ·ΔWᵢ of each LoRA, by its place."""
        by_lora: dict[int, list[Piece]] = {}
        for piece in live(target):
            by_lora.setdefault(piece.lora, []).append(piece)
        return {place: self._sum(target, pieces) for place, pieces in by_lora.items()}


class Dare(Ties):
    """Drop each number of ΔWᵢ with probability 1 − density, divide the others by the density, and sum up
    (Yu et al., "Language models are super Mario", arXiv:2311.03099, equations 1 to 3).

    What is dropped follows from the seed, the module's name and the LoRA's place alone.
    """

    def _matrix(self, target: Target) -> lowrank.Matrix:
        settings = self._settings
        return _Added(
            [
                _Dropped(part, settings.density, _key(settings.seed, target.name, place))
                for place, part in self._parts(target).items()
            ]
        )


class _Trimmed:
    """The largest numbers of a matrix, zeros in the place of the others."""

    def __init__(self, matrix: Sum, density: float) -> None:
        self.shape = matrix.shape
        self.device = matrix.device
        self._matrix = matrix
        self._threshold = _threshold(matrix, density)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        result = self._matrix.rows(start, stop)
        return result.masked_fill_(result.abs() < self._threshold, 0.0)


class _Dropped:
    """A matrix of which each number is kept by chance, and larger for it."""

    def __init__(self, matrix: Sum, density: float, key: int) -> None:
        self.shape = matrix.shape
        self.device = matrix.device
        self._matrix = matrix
        self._kept = max(1, round(density * _DRAWS))
        self._key = key

    def rows(self, start: int, stop: int) -> torch.Tensor:
        keep = self._draws(start, stop) < self._kept
        return (
            self._matrix.rows(start, stop)
            .mul_(torch.from_numpy(keep).to(self.device))
            .mul_(_DRAWS / self._kept)
        )

    def _draws(self, start: int, stop: int) -> "np.ndarray[tuple[int, int], np.dtype[np.uint16]]":
        """A number of 16 bits for each one of the rows, whichever rows are asked for together.

        Philox is a counter (Salmon et al., SC 2011), so that it can begin at any row.
        """
        columns = self.shape[1]
        steps = ceil(columns / _DRAWS_A_STEP)
        generator = np.random.Philox(key=self._key).advance(start * steps)
        words = generator.random_raw((stop - start) * steps * (_DRAWS_A_STEP // 4))
        draws: np.ndarray[tuple[int, int], np.dtype[np.uint16]]
        draws = words.astype("<u8", copy=False).view("<u2").reshape(stop - start, -1)[:, :columns]
        return draws


class _Combined:
    """Several matrices of one shape, put together number by number."""

    def __init__(self, parts: Sequence[lowrank.Matrix]) -> None:
        self._parts = parts
        self.shape = parts[0].shape
        self.device = parts[0].device


class _Added(_Combined):
    """Their sum."""

    def rows(self, start: int, stop: int) -> torch.Tensor:
        total = self._parts[0].rows(start, stop)
        for part in self._parts[1:]:
            total.add_(part.rows(start, stop))
        return total


class _Elected(_Combined):
    """The mean of those that have the sign of the sum."""

    def rows(self, start: int, stop: int) -> torch.Tensor:
        parts = [part.rows(start, stop) for part in self._parts]
        sign = torch.stack(parts).sum(dim=0).sign_()
        total, count = torch.zeros_like(sign), torch.zeros_like(sign)
        for part in parts:
            agrees = (part * sign) > 0
            total.add_(part * agrees)
            count.add_(agrees)
        return total.div_(count.clamp_(min=1))


def _key(seed: int, name: str, place: int) -> int:
    """The key of a module's random numbers: 128 bits."""
    return int.from_bytes(sha256(f"{seed}\0{name}\0{place}".encode()).digest()[:16], "little")


def _threshold(matrix: Sum, density: float) -> float:
    """The least of the largest `density` of all magnitudes, exactly, without having them all at once.

    The upper half of a float orders magnitudes coarsely: a first pass counts them by it, a second one looks
    at those that share the upper half of the one that is sought.
    """
    rows, columns = matrix.shape
    rank = max(1, round(density * rows * columns))
    spans = list(lowrank.chunks(matrix.shape))
    counts = sum(_histogram(matrix.rows(*span)) for span in spans)
    above = torch.flip(torch.cumsum(torch.flip(torch.as_tensor(counts), (0,)), 0), (0,))
    # The last bin with at least `rank` magnitudes in it and above.
    place = int((above >= rank).nonzero()[-1])
    beyond = int(above[place + 1]) if place + 1 < len(above) else 0
    inside = torch.cat([_magnitudes_in(matrix.rows(*span), place) for span in spans])
    return float(inside.sort(descending=True).values[rank - beyond - 1])


def _halves(chunk: torch.Tensor) -> torch.Tensor:
    """The upper half of each magnitude's bits."""
    return (chunk.view(torch.int32) >> 16).bitwise_and_(_SIGN_CLEARED).flatten()


def _histogram(chunk: torch.Tensor) -> torch.Tensor:
    return torch.bincount(_halves(chunk), minlength=_SIGN_CLEARED + 1)


def _magnitudes_in(chunk: torch.Tensor, place: int) -> torch.Tensor:
    return chunk.flatten()[_halves(chunk) == place].abs()
