"""The file of a network: a LoRA that every program reads."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import torch

from trainer.networks.low_rank import LowRank
from trainer.networks.network import Network
from trainer.weights.adapter_output import ModuleOut, even_alpha, scaling, stored
from trainer.weights.dtypes import SHORT_NAMES, bytes_of
from trainer.weights.tensor_writer import TensorWriter, Written

AdapterDtype = Literal["fp32", "fp16", "bf16"]
#: Kohya's names are read everywhere; peft's by diffusers and ComfyUI.
AdapterNaming = Literal["kohya", "peft"]

_ROLES: Final = ("up", "down", "alpha")


class _Piece(NamedTuple):
    """A tensor of the file: of which module, and the number that it is multiplied with."""

    module: LowRank
    role: str
    factor: float


class _Plan(NamedTuple):
    """What is written of one module."""

    module: LowRank
    out: ModuleOut
    factor: float


def write_adapter(
    network: Network,
    path: str,
    metadata: Mapping[str, str],
    *,
    dtype: AdapterDtype = "fp16",
    naming: AdapterNaming = "kohya",
    overwrite: bool = False,
) -> Written:
    """Write the network as it is to `path`, which has it whole or not at all.

    All modules get one alpha, since diffusers reads one for a file, whatever the others say; where a module
    has another one in training, its `up` takes up the difference. Names of peft have no alpha, and `up` takes
    it up whole. `metadata` get `sshs_model_hash` and `sshs_legacy_hash`. Raises WeightsUnsupported for a
    number beyond the range of `dtype`, OutputExists, DiskFull, FileUnwritable.
    """
    code = SHORT_NAMES[dtype]
    modules = [place.module for place in network.places.values()]
    even = even_alpha((module.scale, module.rank) for module in modules)
    plans = [_plan(network, module, code, naming, even) for module in modules]
    pieces = {key: piece for plan in plans for key, piece in _pieces(plan, naming)}
    specs = [spec for plan in plans for spec in plan.out.specs(naming)]
    with TensorWriter(path, specs, metadata, overwrite=overwrite, adapter_hashes=True) as writer:
        for spec in writer.order:
            writer.write(bytes_of(stored(_tensor(pieces[spec.name]), code, spec.name, path)))
        return writer.finish()


def _plan(network: Network, module: LowRank, code: str, naming: AdapterNaming, even: float) -> _Plan:
    written = scaling("even", module.scale, module.rank, code, has_alpha=naming == "kohya", even=even)
    name = network.places[module.name].target.site.name(naming)
    assert name is not None
    out = ModuleOut(name, module.shape, module.rank, written.alpha, code, code, code)
    return _Plan(module, out, written.factor)


def _pieces(plan: _Plan, naming: AdapterNaming) -> list[tuple[str, _Piece]]:
    alpha = plan.out.alpha
    factors = {"up": plan.factor, "down": 1.0} | ({} if alpha is None else {"alpha": alpha})
    return [
        (plan.out.key(role, naming), _Piece(plan.module, role, factors[role]))
        for role in _ROLES
        if role in factors
    ]


def _tensor(piece: _Piece) -> torch.Tensor:
    if piece.role == "alpha":
        return torch.tensor(piece.factor, dtype=torch.float64)
    factor: torch.Tensor = getattr(piece.module, piece.role).detach()
    return factor if piece.factor == 1.0 else factor * piece.factor
