"""An adapter: the modules of a LoRA file, whatever its type and its naming, and the factors of those that
have some.

Headers are enough to read one: of the tensors only the alphas are looked at. Families, and what a module's
name stands for, are not known here.
"""

import math
from collections.abc import Callable, Iterable
from struct import unpack
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from msgspec import Struct

from contract.errors import (
    WeightsDamaged,
    WeightsError,
    WeightsIncomplete,
    WeightsMismatch,
    WeightsNotFinite,
    WeightsUnsupported,
)
from contract.rules.paths import to_wire
from trainer.weights.adapter_config import CONFIG_KEY, AdapterConfig, PatternRefused
from trainer.weights.adapter_keys import AdapterNaming, Role, naming_of, part

if TYPE_CHECKING:
    import torch

    from trainer.weights.tensor_file import TensorFile

#: Networks whose ΔW is a product of two factors.
LOW_RANK: Final = frozenset({"lora", "locon", "dora"})


class AdapterModule(Struct, frozen=True):
    """What an adapter does at one place of a model.

    `network`: lora, locon (a kernel larger than 1 × 1, or lora_mid), dora, loha, lokr, full (`.diff`), norm,
    oft, glora. `keys` has the tensors by what they are. `alpha` is the rank where none is given; ΔW has the
    factor alpha ÷ rank. `shape` is that of the weight, (out, in) or (out, in, kh, kw); of a LoHa or LoKr
    without Tucker core the kernel is not known and it is (out, in · kh · kw); of oft and glora, which cannot
    be told without the model, it is (). `rank` None: it has none.
    """

    name: str
    network: str
    keys: dict[Role, str]
    rank: int | None
    alpha: float
    has_alpha: bool
    shape: tuple[int, ...]

    @property
    def scale(self) -> float:
        """alpha ÷ rank; 1 where there is no rank, as in a LoKr of two whole matrices."""
        return 1.0 if self.rank is None else self.alpha / self.rank

    @property
    def is_conv(self) -> bool:
        """Whether it has a kernel larger than 1 × 1."""
        return math.prod(self.shape[2:]) > 1


class Factors(NamedTuple):
    """ΔW = scale · up · down as a matrix: `up` (out, r), `down` (r, in · kh · kw), `shape` of the weight."""

    up: "torch.Tensor"
    down: "torch.Tensor"
    scale: float
    shape: tuple[int, ...]


class Adapter(Struct, frozen=True):
    """The modules of a file by name. `unpaired` are keys of modules that are not whole (only without
    `strict`), `unknown` keys that belong to no module known here; both are in file order."""

    file: "TensorFile"
    naming: AdapterNaming
    modules: dict[str, AdapterModule]
    unpaired: list[str]
    unknown: list[str]


def read_adapter(file: "TensorFile", *, strict: bool = True) -> Adapter:
    """The modules of `file`.

    With `strict`, raises WeightsIncomplete for a module with a part missing, WeightsMismatch for parts that
    do not fit, WeightsDamaged for an alpha that is no number; without it, their keys are `unpaired`. Raises
    WeightsNotFinite for an alpha that is NaN or infinite, WeightsUnsupported for two adapters in one file.
    """
    grouped, unknown = _grouped(file)
    config = AdapterConfig(file.header.metadata)
    modules: dict[str, AdapterModule] = {}
    unpaired: list[str] = []
    for name, keys in grouped.items():
        try:
            modules[name] = _module(file, name, keys, config)
        except (WeightsIncomplete, WeightsMismatch, WeightsDamaged):
            if strict:
                raise
            unpaired += keys.values()
    place = {name: index for index, name in enumerate(file.names)}
    return Adapter(file, _naming(modules), modules, sorted(unpaired, key=place.__getitem__), unknown)


def factors(adapter: Adapter, module: AdapterModule) -> Factors:
    """The factors of a LoRA, LoCon or DoRA, zero-copy and as stored; `lora_mid` is folded into `down` in
    float64. Raises WeightsUnsupported for a module that is no product of two factors."""
    if module.network not in LOW_RANK:
        raise _error(
            WeightsUnsupported, adapter.file, f"`{module.name}` is a {module.network}, not a pair of factors."
        )
    up = adapter.file.tensor(module.keys["up"])
    down = adapter.file.tensor(module.keys["down"])
    up, down = up.reshape(up.shape[0], -1), down.reshape(down.shape[0], -1)
    if "mid" in module.keys:
        import torch

        mid = adapter.file.tensor(module.keys["mid"])
        core = mid.flatten(2).to(torch.float64)
        down = torch.einsum("ijk,jc->ick", core, down.to(torch.float64)).flatten(1)
    return Factors(up, down, module.scale, module.shape)


def _grouped(file: "TensorFile") -> tuple[dict[str, dict[Role, str]], list[str]]:
    """The keys of each module, and those that are no part of one."""
    grouped: dict[str, dict[Role, str]] = {}
    unknown: list[str] = []
    for key in file.names:
        found = part(key)
        if found is None:
            unknown.append(key)
            continue
        keys = grouped.setdefault(found.module, {})
        if found.role in keys:
            raise _error(
                WeightsUnsupported,
                file,
                f"`{keys[found.role]}` and `{key}` are the same part of one module.",
                key,
            )
        keys[found.role] = key
    return dict(sorted(grouped.items())), unknown


def _naming(names: Iterable[str]) -> AdapterNaming:
    found = {naming_of(name) for name in names}
    if not found:
        return "kohya"
    return found.pop() if len(found) == 1 else "mixed"


def _module(file: "TensorFile", name: str, keys: dict[Role, str], config: AdapterConfig) -> AdapterModule:
    """Raises WeightsIncomplete, WeightsMismatch, WeightsDamaged, WeightsNotFinite."""
    shapes = {role: tuple(file.header.tensors[key].shape) for role, key in keys.items()}
    read = _Shapes(file, name, keys, shapes)
    readers = [reader for signs, reader in _READERS if signs & keys.keys()]
    if not readers:
        raise read.incomplete(f"`{name}` has no weights, only {read.said(*keys)}.")
    read.check_alone()
    network, rank, shape = readers[0](read)
    alpha = _alpha(file, keys["alpha"]) if "alpha" in keys else None
    if alpha is None and rank is not None:
        alpha = _alpha_of(file, config, name, rank)
    return AdapterModule(
        name=name,
        network=network,
        keys=keys,
        rank=rank,
        alpha=float(rank or 1) if alpha is None else alpha,
        has_alpha="alpha" in keys,
        shape=shape,
    )


def _alpha_of(file: "TensorFile", config: AdapterConfig, name: str, rank: int) -> float | None:
    """What the metadata say. Raises WeightsNotFinite, WeightsUnsupported."""
    try:
        alpha = config.alpha(name, rank)
    except PatternRefused as refused:
        text = f"The pattern `{refused}` of alphas in the metadata of `{file.where}` is too intricate."
        raise _error(WeightsUnsupported, file, text, CONFIG_KEY) from None
    if alpha is not None and not math.isfinite(alpha):
        raise _error(WeightsNotFinite, file, f"The alpha of `{name}` in the metadata is {alpha}.", CONFIG_KEY)
    return alpha


class _Shapes:
    """The shapes of one module's tensors, and how its errors are said."""

    def __init__(
        self, file: "TensorFile", name: str, keys: dict[Role, str], shapes: dict[Role, tuple[int, ...]]
    ) -> None:
        self._file = file
        self._name = name
        self._keys = keys
        self.by_role = shapes

    def __contains__(self, role: Role) -> bool:
        return role in self.by_role

    def matrix(self, role: Role) -> tuple[int, ...]:
        """The shape of a tensor of two or more dimensions. Raises WeightsIncomplete, WeightsMismatch."""
        if role not in self.by_role:
            have = next(key for each, key in self._keys.items() if each not in ("alpha", "dora_scale"))
            raise self.incomplete(f"`{self._name}` has `{have}`, but the {role} to it is missing.", have)
        shape = self.by_role[role]
        if len(shape) < 2:
            raise self.mismatch(
                f"`{self._keys[role]}` has the shape {list(shape)}; it needs two dimensions.", role
            )
        return self.filled(role)

    def filled(self, role: Role) -> tuple[int, ...]:
        """The shape of a tensor that has numbers in it. Raises WeightsMismatch."""
        shape = self.by_role[role]
        if 0 in shape:
            raise self.mismatch(f"`{self._keys[role]}` has the shape {list(shape)}; it is empty.", role)
        return shape

    def check_alone(self) -> None:
        """Raises WeightsMismatch where there are several ways to change one weight, of which programs take
        one or another, or all."""
        found = [[role for role in self.by_role if role in ways] for ways in _WAYS]
        several = [roles for roles in found if roles]
        if len(several) > 1:
            said = " and ".join(self.said(roles[0]) for roles in several)
            raise self.mismatch(f"{said} change one weight in two ways.", several[1][0])

    def said(self, *roles: Role) -> str:
        """The keys of some tensors."""
        return ", ".join(f"`{self._keys[role]}`" for role in roles)

    def fit(self, ok: bool, *roles: Role) -> None:
        """Raises WeightsMismatch unless `ok`."""
        if not ok:
            said = " and ".join(f"`{self._keys[role]}` {list(self.by_role[role])}" for role in roles)
            raise self.mismatch(f"The shapes of {said} do not fit together.", roles[0])

    def incomplete(self, message: str, key: str | None = None) -> WeightsIncomplete:
        return _error(WeightsIncomplete, self._file, message, key or next(iter(self._keys.values())))

    def mismatch(self, message: str, role: Role) -> WeightsMismatch:
        return _error(WeightsMismatch, self._file, message, self._keys[role])


#: Type of network, rank, shape of the weight.
_Read = tuple[str, int | None, tuple[int, ...]]


def _lora(shapes: _Shapes) -> _Read:
    up, down = shapes.matrix("up"), shapes.matrix("down")
    shapes.fit(math.prod(up[2:]) == 1, "up")
    shapes.fit(up[1] == down[0], "up", "down")
    shape = (up[0], *down[1:])
    if "mid" in shapes:
        mid = shapes.matrix("mid")
        shapes.fit(mid[:2] == (up[1], down[0]), "up", "mid", "down")
        shapes.fit(math.prod(down[2:]) == 1, "down")
        shape = (up[0], down[1], *mid[2:])
    if "dora_scale" in shapes:
        return "dora", down[0], shape
    is_conv = math.prod(shape[2:]) > 1
    return "locon" if is_conv or "mid" in shapes else "lora", down[0], shape


def _loha(shapes: _Shapes) -> _Read:
    a1, b1 = shapes.matrix("hada_w1_a"), shapes.matrix("hada_w1_b")
    a2, b2 = shapes.matrix("hada_w2_a"), shapes.matrix("hada_w2_b")
    if "hada_t1" in shapes or "hada_t2" in shapes:
        t1, t2 = shapes.matrix("hada_t1"), shapes.matrix("hada_t2")
        shapes.fit(t1[:2] == (a1[0], b1[0]), "hada_t1", "hada_w1_a", "hada_w1_b")
        shapes.fit(t2[:2] == (a2[0], b2[0]), "hada_t2", "hada_w2_a", "hada_w2_b")
        shapes.fit((a1[1], b1[1], t1[2:]) == (a2[1], b2[1], t2[2:]), "hada_t1", "hada_t2")
        return "loha", b1[0], (a1[1], b1[1], *t1[2:])
    shapes.fit(a1[1] == b1[0], "hada_w1_a", "hada_w1_b")
    shapes.fit(a2[1] == b2[0], "hada_w2_a", "hada_w2_b")
    shapes.fit((a1[0], b1[1:]) == (a2[0], b2[1:]), "hada_w1_b", "hada_w2_b")
    return "loha", b1[0], (a1[0], *b1[1:])


def _lokr(shapes: _Shapes) -> _Read:
    """Of two whole matrices the scale is 1, whatever alpha says (LyCORIS, ComfyUI)."""
    rank: int | None = None
    if "lokr_w1" in shapes:
        w1 = shapes.matrix("lokr_w1")
    else:
        a, b = shapes.matrix("lokr_w1_a"), shapes.matrix("lokr_w1_b")
        shapes.fit(a[1] == b[0], "lokr_w1_a", "lokr_w1_b")
        w1, rank = (a[0], b[1]), b[0]
    if "lokr_w2" in shapes:
        w2 = shapes.matrix("lokr_w2")
    elif "lokr_t2" in shapes:
        core, a, b = shapes.matrix("lokr_t2"), shapes.matrix("lokr_w2_a"), shapes.matrix("lokr_w2_b")
        shapes.fit(core[:2] == (a[0], b[0]), "lokr_t2", "lokr_w2_a", "lokr_w2_b")
        w2, rank = (a[1], b[1], *core[2:]), b[0]
    else:
        a, b = shapes.matrix("lokr_w2_a"), shapes.matrix("lokr_w2_b")
        shapes.fit(a[1] == b[0], "lokr_w2_a", "lokr_w2_b")
        w2, rank = (a[0], *b[1:]), b[0]
    return "lokr", rank, (w1[0] * w2[0], w1[1] * w2[1], *w2[2:])


def _full(shapes: _Shapes) -> _Read:
    for role in ("diff", "set_weight", "diff_b"):
        if role in shapes:
            return "full", None, shapes.filled(role)
    raise AssertionError("one of them is why this was called")


def _norm(shapes: _Shapes) -> _Read:
    return "norm", None, shapes.filled("w_norm" if "w_norm" in shapes else "b_norm")


def _oft(shapes: _Shapes) -> _Read:
    return "oft", None, ()


def _glora(shapes: _Shapes) -> _Read:
    for role in _GLORA:
        shapes.matrix(role)
    return "glora", None, ()


_GLORA: Final[tuple[Role, ...]] = ("a1", "a2", "b1", "b2")
#: The tensors that tell a type, and what reads it; the first that fits.
_READERS: Final[tuple[tuple[frozenset[Role], Callable[[_Shapes], _Read]], ...]] = (
    (frozenset({"up", "down", "mid"}), _lora),
    (frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"}), _loha),
    (
        frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
        _lokr,
    ),
    (frozenset(_GLORA), _glora),
    (frozenset({"oft_blocks", "oft_diag"}), _oft),
    (frozenset({"w_norm", "b_norm"}), _norm),
    (frozenset({"diff", "set_weight", "diff_b"}), _full),
)
#: The ways to change a weight by the tensors that tell them; the difference of a bias goes with any.
_WAYS: Final[tuple[frozenset[Role], ...]] = (
    *(signs for signs, reader in _READERS if reader is not _full),
    frozenset({"diff"}),
    frozenset({"set_weight"}),
)

#: How a number is stored as `struct` says it, and the bytes below it that the type leaves out: bfloat16 is
#: the upper half of a float32, and E5M2 that of a float16.
_FORMATS: Final = {
    "F64": ("<d", 0), "F32": ("<f", 0), "F16": ("<e", 0), "BF16": ("<f", 2), "F8_E5M2": ("<e", 1),
    "I64": ("<q", 0), "I32": ("<i", 0), "I16": ("<h", 0), "I8": ("<b", 0),
    "U64": ("<Q", 0), "U32": ("<I", 0), "U16": ("<H", 0), "U8": ("<B", 0),
}  # fmt: skip


def _alpha(file: "TensorFile", key: str) -> float:
    """Raises WeightsDamaged for what is not one number, WeightsNotFinite for NaN and infinity."""
    tensor = file.header.tensors[key]
    if math.prod(tensor.shape) != 1 or tensor.dtype not in (*_FORMATS, "F8_E4M3"):
        text = f"`{key}` should be one number; it is {tensor.dtype} {list(tensor.shape)}."
        raise _error(WeightsDamaged, file, text, key)
    value = _number(tensor.dtype, bytes(file.raw(key)))
    if not math.isfinite(value):
        raise _error(WeightsNotFinite, file, f"`{key}` is {value}.", key)
    return value


def _number(code: str, raw: bytes) -> float:
    """The one number that `raw` is, of a type of `_FORMATS` or F8_E4M3."""
    if code == "F8_E4M3":
        return _e4m3(raw[0])
    form, missing = _FORMATS[code]
    return float(unpack(form, bytes(missing) + raw)[0])


def _e4m3(byte: int) -> float:
    """An 8-bit float with 4 bits of exponent, bias 7, and no infinity (OCP 8-bit floating point, table 1)."""
    exponent, mantissa = byte >> 3 & 0xF, byte & 0x7
    if byte & 0x7F == 0x7F:
        return math.nan
    size = math.ldexp(mantissa, -9) if exponent == 0 else math.ldexp(8 + mantissa, exponent - 10)
    return -size if byte & 0x80 else size


_E = TypeVar("_E", bound=WeightsError)


def _error(kind: type[_E], file: "TensorFile", message: str, key: str | None = None) -> _E:
    return kind(message, where=to_wire(file.path), details={} if key is None else {"key": key})
