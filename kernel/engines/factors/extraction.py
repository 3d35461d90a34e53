"""The LoRA that turns one checkpoint into another, as well as its rank can."""

import time
from collections.abc import Iterator, Sequence
from math import isfinite, prod
from typing import Final, NamedTuple
from zlib import crc32

import torch

from contract.errors import WeightsMismatch, WeightsNotFinite, WeightsUnsupported
from contract.methods.merge import Extract, MergeInput, MergeOutcome
from kernel.engines.factors import lowrank
from kernel.engines.factors.alignment import laid_out, named_sites
from kernel.engines.factors.networks import matrix_shape
from kernel.engines.factors.pieces import Frame, Made, spectral
from kernel.engines.factors.product import Plan, produce
from kernel.engines.streams.models import open_models
from kernel.engines.streams.parts import quantised
from kernel.surgery import Surgery
from trainer.weights import names
from trainer.weights.adapter_output import ModuleOut, scaling
from trainer.weights.dtypes import FLOATS, SHORT_NAMES
from trainer.weights.metadata import recipe_text
from trainer.weights.names import Site
from trainer.weights.tensor_file import TensorFile

#: Weights that LoRAs do not change: the first are vectors, the others are looked up and not multiplied.
_NO_MODULES: Final = frozenset({"norm", "embedding"})
#: Bytes that are compared at once.
_BLOCK: Final = 1 << 20


def extract(settings: Extract, surgery: Surgery) -> MergeOutcome:
    """Write the LoRA of tuned − base to the output.

    Raises WeightsUnknown, WeightsMismatch, WeightsNotFinite, WeightsUnsupported where there is no difference
    that a LoRA can have, JobCanceled, and what reading and writing raise.
    """
    started = time.perf_counter()
    wanted = [
        (settings.tuned, "$.params.settings.tuned.path"),
        (settings.base, "$.params.settings.base.path"),
    ]
    opened = open_models(wanted, surgery)
    tuned, base = opened.files
    if opened.family is None:
        raise WeightsMismatch(f"`{base.where}` is no model that LoRAs are made for.", where=base.where)
    _check_numbers(opened.files)
    comparison = _Comparison(tuned, base, opened.family, settings, surgery)
    modules = comparison.modules()
    unused = comparison.left_out(modules)
    if not modules:
        raise WeightsUnsupported(
            f"`{tuned.where}` differs from `{base.where}` in nothing that a LoRA could have.",
            where=tuned.where,
        )
    frames = [_frame(module, settings, surgery.output) for module in modules]
    plan = Plan(
        phase="extract",
        started=started,
        family=opened.family,
        frames=frames,
        inputs=[
            MergeInput(file=file.where, sha256=each.sha256)
            for file, (each, _) in zip(opened.files, wanted, strict=True)
        ],
        left_out=unused,
        recipe=recipe_text(settings),
    )
    outcome = produce(surgery, plan, lambda index: _best(modules[index], frames[index], settings, tuned))
    if unused:
        outcome.warnings.append(
            f"{len(unused)} tensors differ that are not in the LoRA; `left_out` names them."
        )
    return outcome


def _check_numbers(files: Sequence[TensorFile]) -> None:
    """Raises WeightsUnsupported for quantised weights."""
    for file in files:
        if (sign := quantised(file.names)) is not None:
            raise WeightsUnsupported(
                f"`{file.where}` is quantised: `{sign}` belongs to weights that mean nothing without it.",
                where=file.where,
                details={"key": sign},
            )


class _Module(NamedTuple):
    """A place where the checkpoints differ."""

    name: str
    site: Site
    difference: "_Difference"

    @property
    def is_conv(self) -> bool:
        """Whether it has a kernel larger than 1 × 1."""
        return prod(self.site.shape[2:]) > 1


class _Difference:
    """tuned − base at one site, in fp32, in the order of the module's rows."""

    def __init__(self, tuned: TensorFile, base: TensorFile, site: Site, device: torch.device) -> None:
        self.shape = matrix_shape(site.shape)
        self.device = device
        self._files = tuned, base
        self._site = site

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows from `start` to before `stop`."""
        parts = [
            self._stored(at + max(start, source) - source, at + min(stop, source + size) - source)
            for source, at, size in laid_out(self._site)
            if max(start, source) < min(stop, source + size)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def largest(self) -> float:
        """The largest absolute difference. Raises WeightsNotFinite."""
        largest = 0.0
        for start, stop in lowrank.chunks(self.shape):
            low, high = (float(each) for each in torch.aminmax(self.rows(start, stop)))
            if not (isfinite(low) and isfinite(high)):
                raise self._not_finite()
            largest = max(largest, -low, high)
        return largest

    def _stored(self, first: int, last: int) -> torch.Tensor:
        """Rows of the weight in the files."""
        new, old = (
            file.tensor(self._site.weight)[first:last].to(self.device, torch.float32) for file in self._files
        )
        return (new - old).flatten(1)

    def _not_finite(self) -> WeightsNotFinite:
        """Names the file that has them; infinities of both cancel out to NaN."""
        key = self._site.weight
        for file in self._files:
            if not bool(torch.isfinite(file.tensor(key).float()).all()):
                break
        return WeightsNotFinite(
            f"`{key}` in `{file.where}` has numbers that are NaN or infinite.",
            where=file.where,
            details={"key": key},
        )


class _Comparison:
    """Two checkpoints, weight by weight."""

    def __init__(
        self, tuned: TensorFile, base: TensorFile, family: str, settings: Extract, surgery: Surgery
    ) -> None:
        self._tuned = tuned
        self._base = base
        self._settings = settings
        self._surgery = surgery
        self._sites = names.sites(
            family, {name: tensor.shape for name, tensor in base.header.tensors.items()}
        )
        #: Weights of which a part differs by less than is asked for.
        self._below: set[str] = set()

    def modules(self) -> list[_Module]:
        """Where they differ by as much as the settings ask for, by name.

        Raises WeightsMismatch for shapes that differ, WeightsNotFinite, JobCanceled.
        """
        wanted = list(self._wanted())
        modules = []
        for index, module in enumerate(wanted):
            self._surgery.step("compare", index, len(wanted), unit="modules")
            largest = module.difference.largest()
            if largest > 0 and largest >= self._settings.min_difference:
                modules.append(module)
            elif largest > 0:
                self._below.add(module.site.weight)
        return sorted(modules, key=lambda module: module.name)

    def left_out(self, modules: Sequence[_Module]) -> list[str]:
        """The keys of all tensors that differ, or that one of the two has alone, but for those of which
        `modules` has all that differs."""
        covered = {module.site.weight for module in modules} - self._below
        everything = dict.fromkeys([*self._tuned.names, *self._base.names])
        return [key for key in everything if key not in covered and self._differs(key)]

    def _wanted(self) -> Iterator[_Module]:
        naming = self._settings.naming
        for weight in dict.fromkeys(site.weight for site in self._sites.all):
            for site in named_sites(self._sites, weight, naming):
                if site.kind in _NO_MODULES or len(site.shape) < 2 or not self._has(weight):
                    continue
                difference = _Difference(self._tuned, self._base, site, self._surgery.device)
                module = _Module(str(site.name(naming)), site, difference)
                if self._settings.conv_rank or not module.is_conv:
                    yield module

    def _has(self, weight: str) -> bool:
        """Whether both have a weight, as some numbers of any precision. Raises WeightsMismatch."""
        new, old = (file.header.tensors.get(weight) for file in (self._tuned, self._base))
        if new is None or old is None or not {new.dtype, old.dtype} <= FLOATS:
            return False
        if list(new.shape) != list(old.shape):
            raise WeightsMismatch(
                f"`{weight}` is {list(new.shape)} in `{self._tuned.where}` and {list(old.shape)} in "
                f"`{self._base.where}`.",
                where=self._tuned.where,
                details={"key": weight, "files": [self._tuned.where, self._base.where]},
            )
        return 0 not in new.shape

    def _differs(self, key: str) -> bool:
        new, old = (file.header.tensors.get(key) for file in (self._tuned, self._base))
        if new is None or old is None or list(new.shape) != list(old.shape):
            return True
        self._surgery.check()
        if new.dtype == old.dtype:
            return not _are_equal(self._tuned.raw(key), self._base.raw(key))
        if not {new.dtype, old.dtype} <= FLOATS:
            return True
        tensors: Sequence[torch.Tensor] = [file.tensor(key) for file in (self._tuned, self._base)]
        return not torch.equal(*(tensor.float() for tensor in tensors))


def _are_equal(first: memoryview, second: memoryview) -> bool:
    """As `==` of two views, which looks at one number at a time."""
    return all(
        bytes(first[start : start + _BLOCK]) == bytes(second[start : start + _BLOCK])
        for start in range(0, len(first), _BLOCK)
    )


def _frame(module: _Module, settings: Extract, path: str) -> Frame:
    wanted = settings.conv_rank if module.is_conv else settings.rank
    rank = min(wanted, *module.difference.shape)
    code = SHORT_NAMES[settings.dtype]
    # Small modules have a lower rank; what all can share is the rank that was asked for.
    is_kohya, even = settings.naming == "kohya", float(settings.rank)
    alpha = scaling(settings.alpha, 1.0, rank, code, has_alpha=is_kohya, even=even).alpha
    out = ModuleOut(module.name, module.site.shape, rank, alpha, code, code, code)
    return Frame(out, settings.naming, 1.0 if alpha is None else alpha / rank, path)


def _best(module: _Module, frame: Frame, settings: Extract, tuned: TensorFile) -> Made:
    """Raises WeightsUnsupported for a difference whose norm is beyond the range of fp32."""
    seed = settings.seed ^ crc32(module.name.encode())
    try:
        found = lowrank.best(module.difference, frame.module.rank, iterations=settings.iterations, seed=seed)
    except lowrank.NotFinite:
        raise WeightsUnsupported(
            f"What `{module.site.weight}` in `{tuned.where}` differs by grows beyond the range of fp32.",
            where=tuned.where,
            details={"key": module.site.weight},
        ) from None
    up, down, rounded = spectral(found.up, found.down, frame)
    return Made((up,), (down,), found.square, found.error_square + rounded)
