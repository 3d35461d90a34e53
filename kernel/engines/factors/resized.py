"""LoRA modules at their new ranks: the spectra first, the tensors once all ranks are known."""

import threading
from collections import OrderedDict
from typing import Final

import torch

from contract.methods.resize import ResizedModule
from kernel.engines.factors.core import Core, NotFinite, core_of, parts, wide
from kernel.engines.factors.ranks import Spectrum
from kernel.engines.factors.remade import Aim, Remade
from kernel.engines.factors.sources import Source
from trainer.weights.adapter_output import stored
from trainer.weights.dtypes import bytes_of, torch_dtype
from trainer.weights.tensor_writer import TensorSpec

#: Bytes of all cores that are kept from the first look at the modules to their writing; what does not fit is
#: computed again. A core of rank 64 that is cut to 16 has 16 KiB.
_KEPT_BYTES: Final = 128 << 20
#: Cores that are computed again are held for so long that both tensors of a module can be made of one.
_RECENT: Final = 8


class Cores:
    """The r × r cores of a job's modules, within bounds. Threads may share it."""

    def __init__(self, device: torch.device, path: str) -> None:
        """`path` is the output's, for errors."""
        self.device = device
        self.path = path
        self._lock = threading.Lock()
        self._kept: dict[str, Core] = {}
        self._bytes = 0
        self._recent: OrderedDict[str, Core] = OrderedDict()

    def spectrum(self, source: Source, cap: int) -> Spectrum:
        """The singular values of a module; what is needed for `cap` directions is kept if it fits.

        Raises WeightsNotFinite.
        """
        core = self._computed(source, cap)
        size = core.left.nbytes + core.right.nbytes
        with self._lock:
            if self._bytes + size <= _KEPT_BYTES:
                self._bytes += size
                self._kept[source.name] = core
        return Spectrum(core.values.tolist(), source.full)

    def core(self, source: Source, rank: int) -> Core:
        """The core of a module with room for `rank` directions.

        The numbers lie in memory in the same way whether it was kept or not, so that sums are rounded alike.
        """
        with self._lock:
            core = self._kept.get(source.name) or self._recent.get(source.name)
        if core is None:
            core = self._computed(source, rank)
            with self._lock:
                self._recent[source.name] = core
                if len(self._recent) > _RECENT:
                    self._recent.popitem(last=False)
        return core.cut(rank)

    def _computed(self, source: Source, rank: int) -> Core:
        try:
            return core_of(source.up(self.device), source.down(self.device)).cut(rank)
        except NotFinite as error:
            raise source.not_finite(error) from None


class Resized(Remade):
    """A LoRA module at its new rank: `up` is U·S and `down` Vh, as the reference trainer writes them."""

    def __init__(self, source: Source, spectrum: Spectrum, aim: Aim, cores: Cores) -> None:
        super().__init__(source.name, source.shape, source.scale, aim)
        self.source = source
        self.pieces = source.pieces
        self._spectrum = spectrum
        self._cores = cores
        self._is_same = (
            source.is_as_stored
            and aim.rank == source.rank
            and aim.codes[:2] == source.codes[:2]
            and self.factor == 1
        )
        #: Squares of what rounding to the output's type changes in up · down; known once it is written.
        self._rounded = {"up": 0.0, "down": 0.0}

    @property
    def square(self) -> float:
        """‖ΔW‖²."""
        return self.source.scale**2 * self._spectrum.squares[-1]

    @property
    def lost(self) -> float:
        """‖ΔW − the new ΔW‖², with what the output's type rounds; known once it is written.

        What is cut off is orthogonal to what is rounded, and the roundings of `up` and of `down` add up as
        independent errors do.
        """
        return self.source.scale**2 * self._missing

    @property
    def _missing(self) -> float:
        """The same of up · down."""
        return self._spectrum.lost(self.out.rank) + sum(self._rounded.values())

    def said(self) -> ResizedModule:
        """What the outcome says of it."""
        total = self._spectrum.squares[-1]
        rank = self.out.rank
        return ResizedModule(
            name=self.source.name,
            old_rank=self.source.rank,
            new_rank=rank,
            sum_retained=self._spectrum.sum_retained(rank),
            fro_retained=self._spectrum.fro_retained(rank),
            error=(self._missing / total) ** 0.5 if total > 0 else 0.0,
        )

    def _up(self, spec: TensorSpec) -> memoryview:
        if self._is_same:
            return self.source.raw("up")
        core, up = self._core(), self.source.up(self._cores.device)
        by = self._multipliers(core.values[: self.out.rank])
        result = torch.empty(up.shape[0], self.out.rank, dtype=torch_dtype(spec.dtype))
        rounded = 0.0
        for rows in parts(up):
            exact = wide(up[rows]) @ core.left
            result[rows] = stored(exact * by, spec.dtype, spec.name, self._cores.path)
            if self.factor != 0:
                rounded += float((wide(result[rows]) / by.cpu() - exact.cpu()).square().sum())
        self._rounded["up"] = rounded
        return bytes_of(result)

    def _down(self, spec: TensorSpec) -> memoryview:
        if self._is_same:
            return self.source.raw("down")
        core, down = self._core(), self.source.down(self._cores.device)
        sizes = core.values[: self.out.rank]
        by = self._powers(sizes).unsqueeze(1)
        back = (by * sizes.unsqueeze(1)).cpu()
        result = torch.empty(self.out.rank, down.shape[1], dtype=torch_dtype(spec.dtype))
        rounded = 0.0
        for columns in parts(down.T):
            exact = (core.right @ wide(down[:, columns])) / by
            result[:, columns] = stored(exact, spec.dtype, spec.name, self._cores.path)
            rounded += float(((wide(result[:, columns]) - exact.cpu()) * back).square().sum())
        self._rounded["down"] = rounded
        return bytes_of(result)

    def _core(self) -> Core:
        return self._cores.core(self.source, self.out.rank)
