"""ΔW of a module by its rows, for every type of network that has one of its own.

What needs the weight itself to be known (DoRA) is in `deltas`. Formulas: those of LyCORIS (Yeh et al.,
"Navigating text-to-image customization", arXiv:2309.14859), whose names of tensors are the ones in files.
"""

from collections.abc import Callable, Mapping
from math import isfinite, prod
from typing import Final, NoReturn, Protocol

import torch

from contract.errors import WeightsNotFinite, WeightsUnsupported
from trainer.weights.adapter_file import Adapter, AdapterModule, factors
from trainer.weights.adapter_keys import Role
from trainer.weights.dtypes import FLOATS

Pair = tuple[torch.Tensor, torch.Tensor]


class Delta(Protocol):
    """ΔW of one module as a matrix; `shape` is (out, in · kh · kw)."""

    shape: tuple[int, int]

    def add_(self, rows: torch.Tensor, start: int, weight: float) -> None:
        """Add weight · ΔW[start : start + n] to `rows`: (n, columns), fp32, contiguous, in place."""
        ...


class LowRank:
    """scale · up · down: LoRA and LoCon."""

    def __init__(self, up: torch.Tensor, down: torch.Tensor, scale: float) -> None:
        self.up = up
        self.down = down
        self.scale = scale
        self.shape = (up.shape[0], down.shape[1])

    def add_(self, rows: torch.Tensor, start: int, weight: float) -> None:
        rows.addmm_(self.up[start : start + rows.shape[0]], self.down, alpha=weight * self.scale)


class Hadamard:
    """scale · (A₁·B₁) ∘ (A₂·B₂): LoHa (Hyeon-Woo et al., FedPara, arXiv:2108.06098)."""

    def __init__(
        self,
        first: tuple[torch.Tensor, torch.Tensor],
        second: tuple[torch.Tensor, torch.Tensor],
        scale: float,
    ) -> None:
        self._first = first
        self._second = second
        self._scale = scale
        self.shape = (first[0].shape[0], first[1].shape[1])

    def add_(self, rows: torch.Tensor, start: int, weight: float) -> None:
        span = slice(start, start + rows.shape[0])
        left, right = (a[span] @ b for a, b in (self._first, self._second))
        rows.addcmul_(left, right, value=weight * self._scale)


class Kronecker:
    """scale · w₁ ⊗ w₂: LoKr. `second` is (rows, columns · kh · kw)."""

    def __init__(self, first: torch.Tensor, second: torch.Tensor, scale: float) -> None:
        self._first = first
        self._second = second
        self._scale = scale
        self.shape = (first.shape[0] * second.shape[0], first.shape[1] * second.shape[1])

    def add_(self, rows: torch.Tensor, start: int, weight: float) -> None:
        count, inner = rows.shape[0], self._second.shape[0]
        index = torch.arange(start, start + count, device=rows.device)
        rows.view(count, self._first.shape[1], self._second.shape[1]).addcmul_(
            self._first[index // inner].unsqueeze(2),
            self._second[index % inner].unsqueeze(1),
            value=weight * self._scale,
        )


class Whole:
    """A difference that is there as it is: `.diff`, `.diff_b`, norms; `numbers` is (rows, columns)."""

    def __init__(self, numbers: torch.Tensor, scale: float = 1.0) -> None:
        self._numbers = numbers
        self._scale = scale
        self.shape = (numbers.shape[0], numbers.shape[1])

    def add_(self, rows: torch.Tensor, start: int, weight: float) -> None:
        numbers = self._numbers[start : start + rows.shape[0]]
        rows.add_(numbers.to(rows.device, torch.float32), alpha=weight * self._scale)


def delta(adapter: Adapter, module: AdapterModule, device: torch.device) -> Delta:
    """ΔW of the module's weight; of a DoRA the one before its magnitude.

    Raises WeightsUnsupported for types without one, WeightsNotFinite for NaN and infinite numbers.
    """
    make = _DELTAS.get(module.network)
    if make is None or (module.network == "full" and "diff" not in module.keys) or "reshape" in module.keys:
        refuse(adapter, module, "cannot be computed with")
    return make(adapter, module, device)


def check_numbers(adapter: Adapter, module: AdapterModule) -> None:
    """Raises WeightsUnsupported for whole numbers, which only mean something with what scales them."""
    for role, key in module.keys.items():
        code = adapter.file.header.tensors[key].dtype
        if role != "alpha" and code not in FLOATS:
            where = adapter.file.where
            raise WeightsUnsupported(
                f"`{key}` in `{where}` is {code}; only floating-point numbers can be computed with.",
                where=where,
                details={"key": key},
            )


def refuse(adapter: Adapter, module: AdapterModule, what: str, hint: str | None = None) -> NoReturn:
    """Raises WeightsUnsupported: the module of this type `what`."""
    raise WeightsUnsupported(
        f"`{module.name}` in `{adapter.file.where}` is {title(module)}, which {what}.",
        where=adapter.file.where,
        hint=hint,
        details={"key": next(iter(module.keys.values())), "network": module.network},
    )


def title(module: AdapterModule) -> str:
    """What people call its type, with the article."""
    return _TITLES.get(module.network, module.network)


def finite(adapter: Adapter, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor. Raises WeightsNotFinite."""
    if not is_finite(tensor):
        raise not_finite(adapter, key)
    return tensor


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no number is NaN or infinite, at the speed of memory."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    extremes = torch.aminmax(tensor if tensor.element_size() > 1 else tensor.float())
    return all(isfinite(float(each)) for each in extremes)


def not_finite(adapter: Adapter, key: str) -> WeightsNotFinite:
    """The error for a tensor with NaN or infinite numbers."""
    return WeightsNotFinite(
        f"`{key}` in `{adapter.file.where}` has numbers that are NaN or infinite.",
        where=adapter.file.where,
        details={"key": key},
    )


def read(adapter: Adapter, module: AdapterModule, role: Role, device: torch.device) -> torch.Tensor:
    """A tensor of a module in fp32. Raises WeightsNotFinite."""
    key = module.keys[role]
    return finite(adapter, key, adapter.file.tensor(key).to(device, torch.float32))


def _low_rank(adapter: Adapter, module: AdapterModule, device: torch.device) -> Delta:
    found = factors(adapter, module)
    up, down = (each.to(device, torch.float32).contiguous() for each in (found.up, found.down))
    return LowRank(
        finite(adapter, module.keys["up"], up), finite(adapter, module.keys["down"], down), found.scale
    )


def _hadamard(adapter: Adapter, module: AdapterModule, device: torch.device) -> Delta:
    def pair(a: Role, b: Role, core: Role) -> Pair:
        left, right = (read(adapter, module, role, device) for role in (a, b))
        if core in module.keys:
            return left.T.contiguous(), _tucker(read(adapter, module, core, device), right)
        return left, right.flatten(1)

    first = pair("hada_w1_a", "hada_w1_b", "hada_t1")
    return Hadamard(first, pair("hada_w2_a", "hada_w2_b", "hada_t2"), module.scale)


def _kronecker(adapter: Adapter, module: AdapterModule, device: torch.device) -> Delta:
    def part(whole: Role, a: Role, b: Role) -> torch.Tensor:
        if whole in module.keys:
            return read(adapter, module, whole, device).flatten(1)
        left, right = (read(adapter, module, role, device) for role in (a, b))
        if whole == "lokr_w2" and "lokr_t2" in module.keys:
            return left.T @ _tucker(read(adapter, module, "lokr_t2", device), right)
        return left @ right.flatten(1)

    first = part("lokr_w1", "lokr_w1_a", "lokr_w1_b")
    return Kronecker(first, part("lokr_w2", "lokr_w2_a", "lokr_w2_b"), module.scale)


def _whole(adapter: Adapter, module: AdapterModule, device: torch.device) -> Delta:
    key = module.keys["diff"]
    numbers = finite(adapter, key, adapter.file.tensor(key))
    return Whole(numbers.reshape(numbers.shape[0], -1))


def _tucker(core: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A Tucker core (r, r, kh, kw) with its right factor (r, in) in it: (r, in · kh · kw)."""
    return torch.einsum("ijk,jc->ick", core.flatten(2), right).reshape(core.shape[0], -1)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of a weight as a matrix: (out, all the rest)."""
    return shape[0], prod(shape[1:])


_DELTAS: Final[Mapping[str, Callable[[Adapter, AdapterModule, torch.device], Delta]]] = {
    "lora": _low_rank,
    "locon": _low_rank,
    "dora": _low_rank,
    "loha": _hadamard,
    "lokr": _kronecker,
    "full": _whole,
}
_TITLES: Final = {
    "lora": "a LoRA",
    "locon": "a LoCon",
    "dora": "a DoRA",
    "loha": "a LoHa",
    "lokr": "a LoKr",
    "full": "a full difference",
    "norm": "a difference of a norm",
    "oft": "an OFT",
    "glora": "a GLoRA",
}
