"""LoHa and LoKr as LoRA: the best approximation of one rank, with the error that is left."""

import threading
from collections import OrderedDict
from typing import Final

import torch

from contract.methods.resize import ResizedModule
from kernel.engines.factors import lowrank
from kernel.engines.factors.alignment import Target
from kernel.engines.factors.core import wide
from kernel.engines.factors.networks import delta, matrix_shape, refuse
from kernel.engines.factors.remade import Aim, Remade
from trainer.weights.adapter_file import Adapter, AdapterModule
from trainer.weights.adapter_output import stored
from trainer.weights.dtypes import bytes_of
from trainer.weights.tensor_writer import TensorSpec

#: Networks that can be converted.
CONVERTIBLE: Final = frozenset({"loha", "lokr"})
#: Approximations that are held until both tensors of a module are made of them.
_RECENT: Final = 8


class Approximations:
    """ΔW of modules at a low rank, computed when they are needed. Threads may share it."""

    def __init__(self, adapter: Adapter, device: torch.device, path: str) -> None:
        """`path` is the output's, for errors."""
        self.adapter = adapter
        self.device = device
        self.path = path
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, lowrank.LowRank] = OrderedDict()

    def of(self, module: AdapterModule, rank: int) -> lowrank.LowRank:
        """Raises WeightsNotFinite, and WeightsUnsupported for a ΔW whose norm is beyond the range of fp32."""
        with self._lock:
            found = self._recent.get(module.name)
        if found is None:
            rows = _Rows(self.adapter, module, self.device)
            try:
                found = lowrank.best(rows, rank)
            except lowrank.NotFinite:
                refuse(self.adapter, module, "grows beyond the range of fp32")
            with self._lock:
                self._recent[module.name] = found
                if len(self._recent) > _RECENT:
                    self._recent.popitem(last=False)
        return found


class Converted(Remade):
    """A LoHa or LoKr that becomes a LoRA, with its scale in the factors."""

    def __init__(self, target: Target, aim: Aim, held: Approximations) -> None:
        """The rank may be more than the weight has."""
        aim = aim._replace(rank=min(aim.rank, *matrix_shape(target.shape)))
        super().__init__(target.name, target.shape, 1.0, aim)
        self.pieces = target.pieces
        self._module = target.pieces[0].module
        self._held = held
        self._square = self._cut = 0.0
        #: Squares of what rounding to the output's type changes in ΔW; known once it is written.
        self._rounded = {"up": 0.0, "down": 0.0}

    @property
    def square(self) -> float:
        """‖ΔW‖², known once it is written."""
        return self._square

    @property
    def lost(self) -> float:
        """‖ΔW − the new ΔW‖² with what the output's type rounds, known once it is written."""
        return self._cut + sum(self._rounded.values())

    def said(self) -> ResizedModule:
        error = lowrank.relative(self.lost, self._square)
        return ResizedModule(
            name=self.out.name,
            old_rank=self._module.rank or 0,
            new_rank=self.out.rank,
            sum_retained=None,
            fro_retained=max(0.0, 1 - error**2) ** 0.5,
            error=error,
        )

    def _up(self, spec: TensorSpec) -> memoryview:
        up = wide(self._found().up)
        by = self._multipliers(_sizes(up))
        result = stored(up * by, spec.dtype, spec.name, self._held.path)
        self._rounded["up"] = float((wide(result) / by.cpu() - up.cpu()).square().sum())
        return bytes_of(result)

    def _down(self, spec: TensorSpec) -> memoryview:
        found = self._found()
        sizes = _sizes(wide(found.up))
        powers = self._powers(sizes)
        down = wide(found.down) / powers.unsqueeze(1)
        result = stored(down, spec.dtype, spec.name, self._held.path)
        back = (powers * sizes).cpu().unsqueeze(1)
        self._rounded["down"] = float(((wide(result) - down.cpu()) * back).square().sum())
        return bytes_of(result)

    def _found(self) -> lowrank.LowRank:
        found = self._held.of(self._module, self.out.rank)
        self._square, self._cut = found.square, found.error_square
        return found


class _Rows:
    """ΔW by its rows."""

    def __init__(self, adapter: Adapter, module: AdapterModule, device: torch.device) -> None:
        self._delta = delta(adapter, module, device)
        self.shape = self._delta.shape
        self.device = device

    def rows(self, start: int, stop: int) -> torch.Tensor:
        rows = torch.zeros(stop - start, self.shape[1], device=self.device)
        self._delta.add_(rows, start, 1.0)
        return rows


def _sizes(up: torch.Tensor) -> torch.Tensor:
    return up.square().sum(0).sqrt()
