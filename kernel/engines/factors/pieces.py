"""The factors of what goes into one module of a merged LoRA, and what they are written as."""

from collections.abc import Mapping, Sequence
from math import isfinite, log2
from typing import Final, NamedTuple, NoReturn

import torch

from contract.errors import WeightsUnsupported
from contract.methods.weights import AdapterDtype, AlphaRule
from contract.rules.paths import to_wire
from kernel.engines.factors.alignment import FileNaming, Piece, Target, directions, placed
from kernel.engines.factors.loras import Weighted
from kernel.engines.factors.networks import check_numbers, finite, matrix_shape, refuse
from trainer.weights.adapter_file import LOW_RANK, Adapter, AdapterModule, factors
from trainer.weights.adapter_keys import Role
from trainer.weights.adapter_output import ModuleOut, balance, even_alpha, scaling, stored
from trainer.weights.dtypes import SHORT_NAMES, short_name, torch_dtype

#: Networks whose ΔW is known without the model and can be approximated by a LoRA.
APPROXIMATED: Final = frozenset({"loha", "lokr", "full"})
#: Tensors beside the factors that a LoRA has no place for.
_BESIDE: Final[tuple[Role, ...]] = ("up_bias", "diff_b", "set_weight", "reshape", "dora_scale", "rescale")
_BAKE: Final = "Bake it into the checkpoint."
_APPROXIMATE: Final = "Choose the method `svd`, which says how close."
#: What numbers are kept as where the output has those of its inputs; other types become fp32.
_KEPT: Final[Mapping[str, str]] = {"F16": "F16", "BF16": "BF16", "F8_E4M3": "F16", "F8_E5M2": "F16"}
#: Largest magnitudes of an fp16 factor between which nothing needs to be done. Below 2⁻¹⁴ fp16 rounds by up
#: to 2⁻²⁵, which is less than it rounds typical numbers of a factor whose largest is 2⁻⁹.
_COMFORT: Final = (2.0**-9, 2.0**15)
#: From here on numbers round to infinity.
_TOO_LARGE: Final[Mapping[str, float]] = {"F16": 65520.0, "BF16": 3.3961e38, "F32": 3.4028e38}


class Frame(NamedTuple):
    """What a module is written as. ΔW = `unit` · up · down, `unit` being its alpha ÷ rank; `path` is the
    output's."""

    module: ModuleOut
    naming: FileNaming
    unit: float
    path: str

    @property
    def shape(self) -> tuple[int, int]:
        return matrix_shape(self.module.shape)


class Made(NamedTuple):
    """A module of the output: factors as they are stored, in pieces of some rows each, and the squares of the
    Frobenius norms of its exact ΔW and of what is missing to it."""

    up: tuple[torch.Tensor, ...]
    down: tuple[torch.Tensor, ...]
    square: float
    error_square: float


class Term(NamedTuple):
    """coefficient · up · down: `up` (out, r), `down` (r, columns), as stored in their file."""

    up: torch.Tensor
    down: torch.Tensor
    coefficient: float


class WrittenAs(NamedTuple):
    """How modules are to be written, and the path of the output."""

    naming: FileNaming
    rule: AlphaRule
    dtype: AdapterDtype
    path: str


def frames(
    targets: Sequence[Target], ranks: Sequence[int], loras: Sequence[Weighted], as_: WrittenAs
) -> list[Frame]:
    """What modules of `ranks` are written as. Where the rule keeps alpha ÷ rank, it is that of the first
    input of each."""
    even = even_alpha(zip(map(_scale, targets), ranks, strict=True))
    return [_frame(target, rank, loras, as_, even) for target, rank in zip(targets, ranks, strict=True)]


def _frame(target: Target, rank: int, loras: Sequence[Weighted], as_: WrittenAs, even: float) -> Frame:
    code = _kept_code(target, loras) if as_.dtype == "keep" else SHORT_NAMES[as_.dtype]
    # kohya's tools look for an alpha; diffusers refuses a file in peft's names that has one.
    has_alpha = as_.naming == "kohya" or all(
        piece.module.has_alpha and loras[piece.lora].adapter.naming == as_.naming for piece in target.pieces
    )
    alpha = scaling(as_.rule, _scale(target), rank, code, has_alpha=has_alpha, even=even).alpha
    module = ModuleOut(target.name, target.shape, rank, alpha, code, code, code)
    return Frame(module, as_.naming, 1.0 if alpha is None else alpha / rank, as_.path)


def _scale(target: Target) -> float:
    """alpha ÷ rank of the first input of a module."""
    return abs(target.pieces[0].module.scale) or 1.0


def live(target: Target) -> list[Piece]:
    """The pieces that count: without those of weight 0, but at least one."""
    return [piece for piece in target.pieces if piece.weight * piece.module.scale] or target.pieces[:1]


def is_low_rank(piece: Piece) -> bool:
    """Whether ΔW is a product of two factors and nothing else."""
    module = piece.module
    return module.network in LOW_RANK - {"dora"} and not any(role in module.keys for role in _BESIDE)


def check(target: Target, loras: Sequence[Weighted], *, exactly: bool) -> None:
    """Raises WeightsUnsupported for a piece that a LoRA cannot stand for, or not `exactly`."""
    for piece in target.pieces:
        module, adapter = piece.module, loras[piece.lora].adapter
        check_numbers(adapter, module)
        if is_low_rank(piece):
            continue
        if "dora_scale" in module.keys:
            refuse(adapter, module, "does what it does to the weights of one model only", hint=_BAKE)
        if (key := next((module.keys[role] for role in _BESIDE if role in module.keys), None)) is not None:
            raise _unsupported(adapter, key, f"`{key}` in `{adapter.file.where}` has no place in a LoRA.")
        if not _is_known_delta(module):
            refuse(adapter, module, "does what no LoRA can", hint=_BAKE)
        if not target.knows_kernel:
            refuse(adapter, module, "may be a convolution or not: no model that is known has its name")
        if exactly:
            refuse(adapter, module, "a LoRA can only come close to", hint=_APPROXIMATE)


def term(piece: Piece, loras: Sequence[Weighted], out: int) -> Term:
    """The factors of a piece at its place among `out` rows."""
    adapter = loras[piece.lora].adapter
    for role in ("up", "down"):
        adapter.file.expect(piece.module.keys[role])
    found = factors(adapter, piece.module)
    up, down = (_computable(each) for each in (found.up, found.down))
    return Term(placed(up, piece.segments, out), down, piece.weight * found.scale)


def live_term(piece: Piece, loras: Sequence[Weighted], out: int) -> Term:
    """The same without the directions that do nothing at its place."""
    found = term(piece, loras, out)
    kept = directions(found.up, piece.segments)
    return found if kept is None else found._replace(up=found.up[:, kept], down=found.down[kept])


def live_rank(piece: Piece, loras: Sequence[Weighted], out: int) -> int:
    """How many directions it has at its place; of what is no LoRA, its rank."""
    if piece.segments is None or not is_low_rank(piece):
        return piece.module.rank or 0
    return live_term(piece, loras, out).up.shape[1]


class Unfit(Exception):
    """Raised when a factor has numbers that are not finite, or would have in the type of the output."""


class Narrowed(NamedTuple):
    """How the factors of a term become those of the output: each times a number, then in the output's type.

    For a term whose factors the type has room for, all of the coefficient goes to `up`, with its sign;
    otherwise fp16 factors also exchange a power of two, which changes no digit.
    """

    of_up: float
    of_down: float

    @classmethod
    def of(cls, what: Term, frame_: Frame) -> "Narrowed":
        """Raises Unfit."""
        code = frame_.module.up
        coefficient = what.coefficient / frame_.unit
        up, down = largest(what.up), largest(what.down)
        scales = cls(coefficient, 1.0)
        if code == "F16" and not _is_at_ease(what, up * abs(coefficient), down, coefficient):
            power = 0
            if coefficient and up and down:
                power = round((log2(up) + log2(abs(coefficient)) - log2(down)) / 2)
            scales = cls(coefficient * 2.0**-power, 2.0**power)
        if max(up * abs(scales.of_up), down * scales.of_down) >= _TOO_LARGE[code]:
            raise Unfit
        return scales


def largest(tensor: torch.Tensor) -> float:
    """The largest magnitude, at the speed of memory. Raises Unfit for NaN and infinite numbers."""
    if not tensor.numel():
        return 0.0
    low, high = (float(each) for each in torch.aminmax(tensor))
    if not (isfinite(low) and isfinite(high)):
        raise Unfit
    return max(-low, high)


def multiplied(tensor: torch.Tensor, factor: float, code: str) -> torch.Tensor:
    """tensor · factor in the type `code`; the same tensor where that is what it is."""
    dtype = torch_dtype(code)
    if tensor.dtype == dtype:
        return tensor if factor == 1.0 else tensor * factor
    return (tensor.to(torch.promote_types(tensor.dtype, torch.float32)) * factor).to(dtype)


def unfit(target: Target, loras: Sequence[Weighted], frame_: Frame) -> NoReturn:
    """Raises WeightsNotFinite naming the tensor, or WeightsUnsupported where the output's type is too
    narrow."""
    blame(target, loras)
    module = frame_.module
    key = module.key("up", frame_.naming)
    where = to_wire(frame_.path)
    raise WeightsUnsupported(
        f"`{key}` of `{where}` would have numbers beyond the range of {short_name(module.up)}.",
        where=where,
        hint="Choose `bf16` or `fp32` for the type of the numbers.",
        details={"key": key},
    )


def blame(target: Target, loras: Sequence[Weighted]) -> None:
    """Raises WeightsNotFinite for the first tensor of the inputs of a module that is not finite."""
    for piece in target.pieces:
        adapter = loras[piece.lora].adapter
        for key in piece.module.keys.values():
            finite(adapter, key, adapter.file.tensor(key).float())


class Spectral(NamedTuple):
    """U·S and Vh as they are stored, and the square of what that rounds in ΔW."""

    up: torch.Tensor
    down: torch.Tensor
    rounded_square: float


def spectral(up: torch.Tensor, down: torch.Tensor, frame_: Frame) -> Spectral:
    """Store U·S (out, k) and Vh (k, columns), k being at most the rank.

    The roundings of both add up as independent errors do; that of fp32 counts as none. Raises
    WeightsUnsupported for numbers beyond the range of the type.
    """
    module, pad = frame_.module, frame_.module.rank - up.shape[1]
    up = up / frame_.unit
    if pad:
        up, down = torch.nn.functional.pad(up, (0, pad)), torch.nn.functional.pad(down, (0, 0, 0, pad))
    sizes = torch.linalg.vector_norm(up, dim=0)
    powers = balance(sizes, up.shape[0], module.up)
    if powers is None:
        powers = torch.ones_like(sizes)
    else:
        up, down = up * powers, down / powers[:, None]
    first = stored(up, module.up, module.key("up", frame_.naming), frame_.path)
    second = stored(down, module.up, module.key("down", frame_.naming), frame_.path)
    if first.dtype == torch.float32:
        return Spectral(first, second, 0.0)
    of_up = _rounded(first, up, 0) / powers.cpu() ** 2
    of_down = _rounded(second, down, 1) * (powers * sizes).cpu() ** 2
    return Spectral(first, second, frame_.unit**2 * float(of_up.sum() + of_down.sum()))


def _rounded(kept: torch.Tensor, exact: torch.Tensor, axis: int) -> torch.Tensor:
    """The squares of what rounding changes, summed up along an axis: in fp32, of types that are narrower."""
    changed: torch.Tensor = torch.linalg.vector_norm(kept.float().sub_(exact.cpu().float()), dim=axis)
    return changed.double().square()


def _computable(factor: torch.Tensor) -> torch.Tensor:
    """The factor, of a type that torch can compute with."""
    return factor.float() if factor.element_size() == 1 else factor


def _unsupported(adapter: Adapter, key: str, message: str) -> WeightsUnsupported:
    return WeightsUnsupported(message, where=adapter.file.where, hint=_BAKE, details={"key": key})


def _is_known_delta(module: AdapterModule) -> bool:
    """Whether it changes one matrix, by a ΔW that is known without the model."""
    is_there = module.network != "full" or "diff" in module.keys
    return module.network in APPROXIMATED and len(module.shape) > 1 and is_there


def _kept_code(target: Target, loras: Sequence[Weighted]) -> str:
    """The type of the numbers of all inputs of a module, fp32 where they differ."""
    codes = {
        loras[piece.lora].adapter.file.header.tensors[key].dtype
        for piece in target.pieces
        for role, key in piece.module.keys.items()
        if role != "alpha"
    }
    return _KEPT.get(codes.pop(), "F32") if len(codes) == 1 else "F32"


def _is_at_ease(what: Term, up: float, down: float, coefficient: float) -> bool:
    """Whether fp16 has room for factors with these largest numbers, or they are as they were read."""
    if abs(coefficient) in (0.0, 1.0) and what.up.dtype == what.down.dtype == torch.float16:
        return True
    return all(each == 0.0 or _COMFORT[0] <= each <= _COMFORT[1] for each in (up, down))
