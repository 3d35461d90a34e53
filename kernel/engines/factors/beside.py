"""What a LoRA module has beside its factors: the magnitudes of a DoRA, biases; kept as they are."""

from collections.abc import Callable
from math import prod
from typing import Final

import torch

from contract.errors import WeightsUnsupported
from kernel.engines.factors.alignment import placed
from kernel.engines.factors.core import wide
from kernel.engines.factors.emission import Emission, copied
from kernel.engines.factors.networks import finite
from kernel.engines.factors.remade import Remade
from trainer.weights.adapter_file import Adapter
from trainer.weights.adapter_keys import AdapterNaming, Role
from trainer.weights.dtypes import bytes_of, torch_dtype
from trainer.weights.tensor_writer import TensorSpec

#: What a module may have besides what makes up its ΔW.
KEPT: Final[frozenset[Role]] = frozenset(
    {"dora_scale", "up_bias", "diff_b", "set_weight", "reshape", "rescale"}
)


def beside(
    adapter: Adapter, made: Remade, key_of: Callable[[Role], str], naming: AdapterNaming
) -> list[Emission]:
    """The other tensors of a module, under the keys they are to have in `naming`.

    A bias of `up` takes up what the factors have taken up of the module's scale. Raises WeightsUnsupported
    for what has no place where modules are split or fused.
    """
    roles = {role: None for piece in made.pieces for role in piece.module.keys if role in KEPT}
    return [_Beside(adapter, made, role, naming).emission(key_of(role)) for role in roles]


class _Beside:
    def __init__(self, adapter: Adapter, made: Remade, role: Role, naming: AdapterNaming) -> None:
        self._adapter = adapter
        self._made_of = made
        self._role = role
        self._naming = naming
        self._factor = made.factor

    def emission(self, name: str) -> Emission:
        piece = self._made_of.pieces[0]
        key = piece.module.keys.get(self._role)
        is_alone = len(self._made_of.pieces) == 1 and piece.segments is None
        if key is None or (not is_alone and self._role != "dora_scale"):
            raise self._misplaced()
        if self._role == "up_bias" and self._factor != 1:
            return self._made(name, key, lambda: self._tensor(key) * self._factor)
        shape = tuple(self._adapter.file.header.tensors[key].shape)
        if self._role != "dora_scale" or (is_alone and self._shape(name) in (None, shape)):
            return copied(self._adapter, key, name)
        self._check_magnitudes()
        return self._made(name, key, self._magnitudes, self._shape(name))

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of magnitudes in the output's naming; None where it is that of the input."""
        if self._naming == self._adapter.naming or self._naming == "mixed":
            return None
        out, kernel = self._made_of.out.shape[0], self._made_of.out.shape[2:]
        if self._naming == "peft":
            return (1, out, *(1,) * len(kernel)) if kernel else (out,)
        return (out, 1, *(1,) * len(kernel))

    def _made(
        self, name: str, key: str, make: Callable[[], torch.Tensor], shape: tuple[int, ...] | None = None
    ) -> Emission:
        facts = self._adapter.file.header.tensors[key]
        spec = TensorSpec(name, facts.dtype, tuple(facts.shape) if shape is None else shape)
        return Emission(spec, lambda: bytes_of(make().to(torch_dtype(facts.dtype))))

    def _tensor(self, key: str) -> torch.Tensor:
        return wide(finite(self._adapter, key, self._adapter.file.tensor(key)))

    def _magnitudes(self) -> torch.Tensor:
        """One number a row, from all pieces."""
        out = self._made_of.out.shape[0]
        parts = [
            placed(self._tensor(piece.module.keys["dora_scale"]).reshape(-1), piece.segments, out)
            for piece in self._made_of.pieces
        ]
        return torch.stack(parts).sum(0)

    def _check_magnitudes(self) -> None:
        """Raises WeightsUnsupported unless every row of the output gets the magnitude of one row."""
        covered = 0
        for piece in self._made_of.pieces:
            key = piece.module.keys.get("dora_scale")
            shape = () if key is None else tuple(self._adapter.file.header.tensors[key].shape)
            rows = piece.module.shape[0]
            of_peft = self._adapter.naming == "peft" and len(shape) > 2 and shape[:2] == (1, rows)
            if prod(shape) != rows or not (shape[0] == rows or of_peft):
                raise self._misplaced()
            covered += rows if piece.segments is None else sum(each.size for each in piece.segments)
        if covered != self._made_of.out.shape[0]:
            raise self._misplaced()

    def _misplaced(self) -> WeightsUnsupported:
        names = [piece.module.name for piece in self._made_of.pieces]
        where = self._adapter.file.where
        return WeightsUnsupported(
            f"`{self._role}` of {', '.join(f'`{name}`' for name in names)} in `{where}` has no place in "
            f"`{self._made_of.out.name}`, which has other rows.",
            where=where,
            hint="Keep the naming of the input.",
            details={"modules": names},
        )
