"""Begins a network with what another training has learnt: a LoRA file."""

from typing import NamedTuple, NoReturn

import torch

from contract.errors import WeightsError, WeightsMismatch, WeightsNotFinite, WeightsUnsupported
from contract.rules.families import TITLES, detect
from trainer.networks.low_rank import LowRank
from trainer.networks.network import Network
from trainer.weights.adapter_file import Adapter, AdapterModule, factors, read_adapter
from trainer.weights.tensor_file import TensorFile

#: What a network of this package can go on from.
_KNOWN = frozenset({"lora", "locon"})


class Started(NamedTuple):
    """What became of a file, in kohya's names: `loaded` modules; `fresh` ones, which it does not have;
    `left_out` ones of it, by their names there, which the network does not train."""

    loaded: list[str]
    fresh: list[str]
    left_out: list[str]


class _Match(NamedTuple):
    """A module of the file and that of the network."""

    there: AdapterModule
    here: LowRank


def start_from(network: Network, file: TensorFile) -> Started:
    """Begin with the LoRA in `file`; its alphas may be others, its ranks not. Nothing has changed where it
    raises.

    Raises WeightsMismatch for a LoRA of another family, other ranks or shapes, and where no module fits;
    WeightsUnsupported for another type of network, WeightsNotFinite, and what `read_adapter` raises.
    """
    _check_family(network, file)
    adapter = read_adapter(file)
    matches, left_out = _matches(network, adapter)
    if not matches:
        _refuse(WeightsMismatch, file, "has none of the modules that are to be trained")
    for match in matches:
        _check(match, adapter)
    for match in matches:
        _take_over(match, adapter)
    loaded = [match.here.name for match in matches]
    return Started(loaded, sorted(network.places.keys() - set(loaded)), left_out)


def _check_family(network: Network, file: TensorFile) -> None:
    shapes = {name: tensor.shape for name, tensor in file.header.tensors.items()}
    found = detect(shapes, file.header.metadata)
    if found.family is not None and found.family != network.family:
        _refuse(
            WeightsMismatch,
            file,
            f"is for {TITLES[found.family]}, the model that is trained is {TITLES[network.family]}",
        )


def _matches(network: Network, adapter: Adapter) -> tuple[list[_Match], list[str]]:
    """What fits by name, and the names of what does not."""
    matches: list[_Match] = []
    left_out: list[str] = []
    for name, module in adapter.modules.items():
        site = network.sites.find(name)
        if site is None or site.kohya is None:
            left_out.append(name)
        else:
            matches.append(_Match(module, network.places[site.kohya].module))
    return matches, left_out


def _check(match: _Match, adapter: Adapter) -> None:
    there, here, file = match.there, match.here, adapter.file
    if there.network not in _KNOWN:
        says = f"has a {there.network} at `{there.name}`; only LoRA and LoCon can be gone on with"
        _refuse(WeightsUnsupported, file, says, there)
    if there.shape[:2] != here.shape[:2] or _kernel(there.shape) != _kernel(here.shape):
        says = f"changes a weight of {list(there.shape)} at `{there.name}`, the model has {list(here.shape)}"
        _refuse(WeightsMismatch, file, says, there)
    if there.rank != here.rank:
        says = f"has rank {there.rank} at `{there.name}`, {here.rank} is set"
        setting = "conv_rank" if here.down[0, 0].numel() > 1 else "rank"
        _refuse(WeightsMismatch, file, says, there, hint=f"Set `network.{setting}` to {there.rank}.")
    for tensor in factors(adapter, there)[:2]:
        if not bool(torch.isfinite(tensor).all()):
            _refuse(WeightsNotFinite, file, f"has NaN or infinite numbers at `{there.name}`", there)


def _kernel(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width; 1 × 1 for linear layers, as files write some of these as convolutions."""
    return shape[2:] or (1, 1)


@torch.no_grad()
def _take_over(match: _Match, adapter: Adapter) -> None:
    """ΔW stays what it is in the file: where alpha ÷ rank differs, `up` takes the difference up."""
    here = match.here
    up, down, scale, _ = factors(adapter, match.there)
    here.up.copy_(up.to(torch.float32).mul(scale / here.scale).reshape(here.up.shape))
    here.down.copy_(down.reshape(here.down.shape))


def _refuse(
    kind: type[WeightsError],
    file: TensorFile,
    says: str,
    module: AdapterModule | None = None,
    *,
    hint: str | None = None,
) -> NoReturn:
    details = None if module is None else {"key": next(iter(module.keys.values()))}
    raise kind(f"`{file.where}` {says}.", where=file.where, hint=hint, details=details)
