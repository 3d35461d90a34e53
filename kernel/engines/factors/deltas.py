"""What LoRAs do to the weights of a checkpoint: W + Σ weight · ΔWᵢ, some rows at a time.

A DoRA sets the norms of W + ΔW to the magnitudes that it has learned (Liu et al., "DoRA: weight-decomposed
low-rank adaptation", arXiv:2402.09353, equation 5), of each row (peft, and LyCORIS with `wd_on_output`) or of
each input channel (LyCORIS without); what it adds to W is weight · (magnitude · (W + ΔW) ÷ norm − W). ComfyUI
divides rows by the norms of W instead, which is not what the DoRA was trained with. Every LoRA starts from
the W of the checkpoint, so that their order makes no difference.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Final, NamedTuple, Protocol

import torch

from contract.errors import WeightsMismatch
from kernel.engines.factors.alignment import Segment, check_once, fits, laid_out
from kernel.engines.factors.loras import Weighted, check_weights, family_mismatch
from kernel.engines.factors.networks import Delta, LowRank, Whole, check_numbers, delta, finite, read, refuse
from trainer.weights import names
from trainer.weights.adapter_file import AdapterModule
from trainer.weights.adapter_keys import Role
from trainer.weights.names import Site
from trainer.weights.tensor_file import TensorFile

#: Weights whose factors are kept ready: streams work on a few at a time.
_READY: Final = 8
#: What the keys of peft call the magnitudes of a DoRA.
_PEFT_MAGNITUDE: Final = "lora_magnitude_vector"
#: Tensors of a module that change the bias of its weight.
_BIASES: Final[tuple[Role, ...]] = ("diff_b", "b_norm", "up_bias")


class Deltas:
    """The changes that LoRAs make to a checkpoint. Threads may share it.

    `keys` are the tensors that change. `whole` are those whose rows have to come all at once, since norms
    over them are needed. `left_out` names what of the LoRAs fits nothing here.
    """

    def __init__(
        self,
        loras: Sequence[Weighted],
        family: str,
        checkpoint: TensorFile,
        device: torch.device | None = None,
        where: str = "$.params.settings.loras",
    ) -> None:
        """`where` is the place of the LoRAs in the params.

        Raises WeightsMismatch for a LoRA of another family, of other shapes, or of which nothing fits,
        WeightsUnsupported for networks that cannot be baked in, InvalidParams for weights of blocks that the
        model does not have.
        """
        self.left_out: list[str] = []
        self._device = device or torch.device("cpu")
        self._tensors = checkpoint.header.tensors
        self._where = checkpoint.where
        self._planned: dict[str, list[_Planned]] = {}
        self._ready: OrderedDict[str, list[_Change]] = OrderedDict()
        self._lock = Lock()
        sites = names.sites(family, {name: tensor.shape for name, tensor in self._tensors.items()})
        check_weights(loras, sites, where)
        for lora in loras:
            if lora.families and family not in lora.families:
                raise family_mismatch(checkpoint.where, [family], lora)
            self._plan(lora, sites)
        self.keys = frozenset(self._planned)
        self.whole = frozenset(
            key for key, planned in self._planned.items() if any(each.needs_all for each in planned)
        )

    def add_(self, key: str, weight: torch.Tensor, first_row: int = 0) -> None:
        """Add Σ weight · ΔW to some rows of the tensor `key`, in place.

        `weight` (n, …) are its rows from `first_row` on as the checkpoint has them, fp32, contiguous, on the
        device; all of them for a key of `whole`. Raises WeightsNotFinite.
        """
        rows = weight.view(weight.shape[0], -1)
        if key in self.whole and rows.shape[0] != self._tensors[key].shape[0]:
            raise ValueError(f"{key} needs all of its rows at once")
        changes = self._changes(key)
        base = rows.clone() if any(each.needs_weight for each in changes) else rows
        for change in changes:
            for source, target, size in change.segments:
                first, last = max(first_row, target), min(first_row + rows.shape[0], target + size)
                if first < last:
                    span = slice(first - first_row, last - first_row)
                    change.add_(rows[span], base[span], source + first - target)

    def _plan(self, lora: Weighted, sites: names.Sites) -> None:
        fitting = 0
        check_once(lora.adapter, sites)
        self.left_out += lora.adapter.unknown
        for module in lora.adapter.modules.values():
            site = sites.find(module.name)
            if site is None:
                self.left_out.append(module.name)
                continue
            fitting += 1
            self._plan_module(lora, module, site)
        if not fitting:
            raise self._mismatch(lora, f"Nothing of `{lora.adapter.file.where}` fits `{self._where}`.")

    def _plan_module(self, lora: Weighted, module: AdapterModule, site: Site) -> None:
        self._check(lora, module, site)
        segments, weight = tuple(laid_out(site)), lora.weight(site)
        if not weight:
            return
        if any(role not in _BIASES and role != "alpha" for role in module.keys):
            planned = _Planned(lora, module, site.shape, segments, weight, None)
            self._planned.setdefault(site.weight, []).append(planned)
        for role in _BIASES:
            if role not in module.keys:
                continue
            if site.bias in self._tensors:
                planned = _Planned(lora, module, site.shape, segments, weight, role)
                self._planned.setdefault(site.bias, []).append(planned)
            else:
                self.left_out.append(module.keys[role])

    def _check(self, lora: Weighted, module: AdapterModule, site: Site) -> None:
        if module.network not in _BAKED or "reshape" in module.keys or "rescale" in module.keys:
            refuse(lora.adapter, module, "cannot be baked into a checkpoint yet")
        check_numbers(lora.adapter, module)
        if not set(module.keys) <= {*_BIASES, "alpha"} and not fits(module, site.shape):
            made_for = f"`{module.name}` in `{lora.adapter.file.where}` is for {list(module.shape)}"
            found = f"`{site.weight}` in `{self._where}` is {list(site.shape)}"
            raise self._mismatch(lora, f"{made_for}, {found}.", next(iter(module.keys.values())))
        for key in (module.keys[role] for role in _BIASES if role in module.keys):
            shape = lora.adapter.file.header.tensors[key].shape
            if list(shape) != list(site.shape[:1]):
                message = f"`{key}` in `{lora.adapter.file.where}` is {list(shape)}, not {[site.shape[0]]}."
                raise self._mismatch(lora, message, key)

    def _mismatch(self, lora: Weighted, message: str, key: str | None = None) -> WeightsMismatch:
        files = [lora.adapter.file.where, self._where]
        return WeightsMismatch(
            message, where=files[0], details={"files": files} | ({} if key is None else {"key": key})
        )

    def _changes(self, key: str) -> "list[_Change]":
        """The changes of a tensor, with their factors ready."""
        with self._lock:
            if key not in self._ready:
                self._ready[key] = _ready(self._planned[key], self._device)
                if len(self._ready) > _READY:
                    self._ready.popitem(last=False)
            self._ready.move_to_end(key)
            return self._ready[key]


class _Planned(NamedTuple):
    """What one module does to one tensor: to the weight, or with `bias` to its bias. `shape` is that of the
    module's rows of the weight."""

    lora: Weighted
    module: AdapterModule
    shape: tuple[int, ...]
    segments: tuple[Segment, ...]
    weight: float
    bias: Role | None

    @property
    def needs_all(self) -> bool:
        """Whether it takes all rows to know what changes in one."""
        return self.bias is None and "dora_scale" in self.module.keys and not self.is_by_row

    @property
    def is_by_row(self) -> bool:
        """Whether the magnitudes of a DoRA are those of its rows: always in peft, whose convolutions have
        them as (1, out, 1, 1), and in LyCORIS as (out, 1, …), not (1, in, …)."""
        key = self.module.keys["dora_scale"]
        shape = self.lora.adapter.file.header.tensors[key].shape
        return _PEFT_MAGNITUDE in key or len(shape) == 1 or shape[0] != 1 or self.shape[0] == 1

    def magnitude(self, device: torch.device) -> torch.Tensor:
        """The magnitudes of a DoRA, one for each row or for each input channel. Raises WeightsMismatch."""
        adapter, module = self.lora.adapter, self.module
        magnitude = read(adapter, module, "dora_scale", device).flatten()
        expected = self.shape[0] if self.is_by_row else self.shape[1]
        if len(magnitude) != expected:
            key = module.keys["dora_scale"]
            raise WeightsMismatch(
                f"`{key}` in `{adapter.file.where}` has {len(magnitude)} numbers, not {expected}.",
                where=adapter.file.where,
                details={"key": key},
            )
        return magnitude


class _Change(Protocol):
    """What is added to the rows of `segments`, in the order of the module's rows."""

    segments: tuple[Segment, ...]
    needs_weight: bool

    def add_(self, rows: torch.Tensor, base: torch.Tensor, start: int) -> None:
        """Add to `rows`, which are the module's rows from `start` on; `base` is what they were at first."""
        ...


class _Sum:
    """weight · ΔW."""

    needs_weight = False

    def __init__(self, segments: tuple[Segment, ...], what: Delta, weight: float) -> None:
        self.segments = segments
        self._what = what
        self._weight = weight

    def add_(self, rows: torch.Tensor, base: torch.Tensor, start: int) -> None:
        self._what.add_(rows, start, self._weight)


class _Replaced:
    """weight · (what the weight is to be − W)."""

    needs_weight = True

    def __init__(self, planned: _Planned, device: torch.device) -> None:
        self.segments = planned.segments
        self._weight = planned.weight
        value = read(planned.lora.adapter, planned.module, "set_weight", device)
        self._value = value.reshape(value.shape[0], -1)

    def add_(self, rows: torch.Tensor, base: torch.Tensor, start: int) -> None:
        rows.add_(self._value[start : start + rows.shape[0]] - base, alpha=self._weight)


class _Decomposed:
    """weight · (magnitude · (W + ΔW) ÷ norm − W), the norm being that of a row, or of an input channel over
    all rows."""

    needs_weight = True

    def __init__(self, planned: _Planned, device: torch.device) -> None:
        self.segments = planned.segments
        self._weight = planned.weight
        self._what = delta(planned.lora.adapter, planned.module, device)
        self._magnitude = planned.magnitude(device)
        self._by_row = planned.is_by_row

    def add_(self, rows: torch.Tensor, base: torch.Tensor, start: int) -> None:
        updated = base.clone()
        self._what.add_(updated, start, 1.0)
        if self._by_row:
            magnitude = self._magnitude[start : start + rows.shape[0], None]
            norm = torch.linalg.vector_norm(updated, dim=1, keepdim=True)
        else:
            channels = updated.view(rows.shape[0], len(self._magnitude), -1)
            each = torch.linalg.vector_norm(channels, dim=(0, 2))
            repeated = channels.shape[2]
            magnitude, norm = (part.repeat_interleave(repeated) for part in (self._magnitude, each))
        updated.mul_(magnitude / (norm + torch.finfo(torch.float32).eps))
        rows.add_(updated.sub_(base), alpha=self._weight)


#: Networks that change a weight in a way that is known here.
_BAKED: Final = frozenset({"lora", "locon", "dora", "loha", "lokr", "full", "norm"})


def _ready(planned: Sequence[_Planned], device: torch.device) -> list[_Change]:
    """The changes of one tensor; all pairs of factors for the same rows as one pair."""
    changes: list[_Change] = []
    low_rank: dict[tuple[Segment, ...], list[LowRank]] = {}
    for each in planned:
        if each.bias is not None:
            changes.append(_Sum(each.segments, _bias(each, each.bias, device), each.weight))
        elif "dora_scale" in each.module.keys:
            changes.append(_Decomposed(each, device))
        elif "set_weight" in each.module.keys:
            changes.append(_Replaced(each, device))
        elif isinstance(what := _delta(each, device), LowRank):
            scaled = LowRank(what.up, what.down, what.scale * each.weight)
            low_rank.setdefault(each.segments, []).append(scaled)
        else:
            changes.append(_Sum(each.segments, what, each.weight))
    changes += [_Sum(segments, _joined(several), 1.0) for segments, several in low_rank.items()]
    return changes


def _delta(planned: _Planned, device: torch.device) -> Delta:
    if planned.module.network == "norm":
        return _bias(planned, "w_norm", device)
    return delta(planned.lora.adapter, planned.module, device)


def _bias(planned: _Planned, role: Role, device: torch.device) -> Delta:
    """A difference of one dimension; the bias of a LoRA has its alpha ÷ rank, as in peft."""
    adapter, key = planned.lora.adapter, planned.module.keys[role]
    numbers = finite(adapter, key, adapter.file.tensor(key).to(device, torch.float32))
    return Whole(numbers.reshape(-1, 1), planned.module.scale if role == "up_bias" else 1.0)


def _joined(several: Sequence[LowRank]) -> LowRank:
    if len(several) == 1:
        return several[0]
    up = torch.cat([each.up * each.scale for each in several], dim=1)
    return LowRank(up, torch.cat([each.down for each in several]), 1.0)
