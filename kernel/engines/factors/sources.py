"""The LoRA modules of an output, and the factors that each is made of."""

from math import prod
from typing import NamedTuple

import torch

from contract.errors import WeightsUnsupported
from kernel.engines.factors.alignment import Piece, Target, directions, placed
from kernel.engines.factors.core import NotFinite, wide
from kernel.engines.factors.networks import is_finite, not_finite
from trainer.weights.adapter_file import LOW_RANK, Adapter, factors
from trainer.weights.adapter_keys import Role
from trainer.weights.dtypes import FLOATS


class Codes(NamedTuple):
    """The types, as codes of safetensors, that a module's tensors have."""

    up: str
    down: str
    alpha: str


class Source:
    """One module of the output. ΔW = scale · up · down, with the factors of all its pieces in them.

    Where the naming of the output fuses what the input splits, there are several pieces, whose ranks add;
    where it splits, one module is a piece of several sources.
    """

    def __init__(self, adapter: Adapter, target: Target) -> None:
        """Raises WeightsUnsupported for factors that are no floating-point numbers."""
        self._adapter = adapter
        self.name = target.name
        self.shape = target.shape
        self.pieces = target.pieces
        self.rank = sum(piece.module.rank or 0 for piece in self.pieces)
        first = self.pieces[0].module
        self.scale = first.scale if len(self.pieces) == 1 or first.scale != 0 else 1.0
        self.has_alpha = first.has_alpha
        up, down = self._code(first.keys["up"]), self._code(first.keys["down"])
        of_alpha = adapter.file.header.tensors[first.keys["alpha"]].dtype if first.has_alpha else up
        # An alpha of a whole number may not be one any more.
        self.codes = Codes(up, down, of_alpha if of_alpha in FLOATS else up)

    @property
    def is_conv(self) -> bool:
        """Whether it has a kernel larger than 1 × 1."""
        return prod(self.shape[2:]) > 1

    @property
    def full(self) -> int:
        """How many singular values ΔW has, min(out, in · kh · kw)."""
        return min(self.shape[0], prod(self.shape[1:]))

    @property
    def is_as_stored(self) -> bool:
        """Whether its factors are the very tensors of one module of the input."""
        piece = self.pieces[0]
        return len(self.pieces) == 1 and piece.segments is None and "mid" not in piece.module.keys

    def key(self, role: Role) -> str | None:
        """The key that one of its tensors has in the input; None where it has none, or several."""
        return self.pieces[0].module.keys.get(role) if len(self.pieces) == 1 else None

    def raw(self, role: Role) -> memoryview:
        """The bytes of a tensor of the one module it is as stored from."""
        return self._adapter.file.raw(self.pieces[0].module.keys[role])

    def up(self, device: torch.device) -> torch.Tensor:
        """(out, r) on `device`, as stored where there is one piece."""
        columns = [self._up(piece, device) for piece in self.pieces]
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)

    def down(self, device: torch.device) -> torch.Tensor:
        """(r, in · kh · kw) on `device`, as stored where there is one piece."""
        rows = [self._down(piece, device) for piece in self.pieces]
        return rows[0] if len(rows) == 1 else torch.cat([wide(each) for each in rows])

    def not_finite(self, error: NotFinite) -> Exception:
        """The error that names the tensor with NaN or infinite numbers."""
        keys = [piece.module.keys[error.factor] for piece in self.pieces]
        bad = next((key for key in keys if not is_finite(self._adapter.file.tensor(key))), keys[0])
        return not_finite(self._adapter, bad)

    def _up(self, piece: Piece, device: torch.device) -> torch.Tensor:
        up, live = self._placed(piece)
        up = (up if live is None else up[:, live]).to(device)
        return up if len(self.pieces) == 1 else wide(up) * (piece.module.scale / self.scale)

    def _down(self, piece: Piece, device: torch.device) -> torch.Tensor:
        self._adapter.file.expect(piece.module.keys["down"])
        down, live = factors(self._adapter, piece.module).down, self._placed(piece)[1]
        return (down if live is None else down[live]).to(device)

    def _placed(self, piece: Piece) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`up` at its place, and those of its columns that count there."""
        self._adapter.file.expect(piece.module.keys["up"])
        up = placed(factors(self._adapter, piece.module).up, piece.segments, self.shape[0])
        return up, directions(up, piece.segments)

    def _code(self, key: str) -> str:
        code = self._adapter.file.header.tensors[key].dtype
        if code not in FLOATS:
            where = self._adapter.file.where
            raise WeightsUnsupported(
                f"`{key}` in `{where}` is {code}; a factor needs floating-point numbers.",
                where=where,
                details={"key": key},
            )
        return code


def is_low_rank(target: Target) -> bool:
    """Whether all pieces of a module have factors."""
    return all(piece.module.network in LOW_RANK for piece in target.pieces)
