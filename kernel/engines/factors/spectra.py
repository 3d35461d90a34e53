"""The best LoRA of one rank for a sum of them: the method `svd`, and what `ties` and `dare` share with it."""

from collections.abc import Sequence
from zlib import crc32

import torch

from contract.errors import WeightsUnsupported
from contract.methods.merge import LoraMerge
from kernel.engines.factors import lowrank
from kernel.engines.factors.alignment import Piece, Segment, Target, ranks_of
from kernel.engines.factors.core import NotFinite, decompose
from kernel.engines.factors.loras import Weighted
from kernel.engines.factors.networks import Delta, delta, matrix_shape
from kernel.engines.factors.pieces import (
    Frame,
    Made,
    check,
    is_low_rank,
    live,
    live_rank,
    live_term,
    spectral,
    unfit,
)


class Svd:
    """ΔW = the best of the rank for Σ cᵢ·upᵢ·downᵢ (Eckart and Young, 1936), from the singular values of the
    concatenated factors; out × in is formed only for networks that are no product of factors."""

    is_estimate = False

    def __init__(self, loras: Sequence[Weighted], settings: LoraMerge, device: torch.device) -> None:
        self._loras = loras
        self._settings = settings
        self._device = device

    def rank(self, target: Target) -> int:
        """That of the settings, or the highest of the inputs here; never more than the sum has.

        Raises WeightsUnsupported for a module that no LoRA can come close to.
        """
        check(target, self._loras, exactly=False)
        most = min(matrix_shape(target.shape))
        if self._is_sum(target):
            most = min(most, sum(live_rank(piece, self._loras, target.shape[0]) for piece in live(target)))
        return min(most, self._wanted(target))

    def merge(self, target: Target, frame: Frame) -> Made:
        """Raises WeightsNotFinite, and WeightsUnsupported where the type of the numbers has no room."""
        if not self._is_sum(target):
            return self._approximated(target, frame)
        terms = [live_term(piece, self._loras, target.shape[0]) for piece in live(target)]
        up = torch.cat([each.up.to(self._device).float() * each.coefficient for each in terms], dim=1)
        down = torch.cat([each.down.to(self._device).float() for each in terms])
        try:
            core = decompose(up, down)
        except NotFinite:
            unfit(target, self._loras, frame)
        rank = frame.module.rank
        up, down, rounded = spectral(*core.truncated(rank), frame)
        return Made((up,), (down,), core.total, float(core.values[rank:].square().sum()) + rounded)

    def _is_sum(self, target: Target) -> bool:
        """Whether the sum is a product of factors."""
        return all(is_low_rank(piece) for piece in live(target))

    def _matrix(self, target: Target) -> lowrank.Matrix:
        """ΔW of the module, by its rows."""
        return self._sum(target, live(target))

    def _sum(self, target: Target, pieces: Sequence[Piece]) -> "Sum":
        deltas = [
            (delta(self._loras[piece.lora].adapter, piece.module, self._device), piece.weight, piece.segments)
            for piece in pieces
        ]
        return Sum(deltas, matrix_shape(target.shape), self._device)

    def _approximated(self, target: Target, frame: Frame) -> Made:
        try:
            found = lowrank.best(self._matrix(target), frame.module.rank, seed=crc32(target.name.encode()))
        except lowrank.NotFinite:
            unfit(target, self._loras, frame)
        up, down, rounded = spectral(found.up, found.down, frame)
        return Made((up,), (down,), found.square, found.error_square + rounded)

    def _wanted(self, target: Target) -> int:
        settings = self._settings
        wanted = settings.conv_rank if target.is_conv and settings.conv_rank is not None else settings.rank
        if wanted is not None:
            return wanted
        most = max(ranks_of(target.pieces).values())
        if not most:
            where = self._loras[target.pieces[0].lora].adapter.file.where
            raise WeightsUnsupported(
                f"No input of `{target.name}` has a rank that the output could have.",
                where=where,
                hint="Give a `rank`.",
                details={"key": next(iter(target.pieces[0].module.keys.values()))},
            )
        return most


class Sum:
    """Σ weight · ΔW of some pieces, made when it is asked for."""

    def __init__(
        self,
        deltas: Sequence[tuple[Delta, float, tuple[Segment, ...] | None]],
        shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._deltas = deltas
        self.shape = shape
        self.device = device

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows from `start` to before `stop`, the caller's to change."""
        result = torch.zeros(stop - start, self.shape[1], device=self.device)
        for each, weight, segments in self._deltas:
            for source, target, size in segments or (Segment(0, 0, self.shape[0]),):
                first, last = max(start, target), min(stop, target + size)
                if first < last:
                    each.add_(result[first - start : last - start], source + first - target, weight)
        return result
