"""A LoRA at other ranks: every module cut to the directions that count, and what is none left as it is.

Two passes over the file. The first takes the singular values of every module from the r × r core of its
factors; with them all ranks, and so the header of the output, are known. The second makes the tensors in the
order of the file. One module a core is in memory at a time, and of the first pass only small matrices.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from contract.errors import WeightsMismatch, WeightsUnknown, WeightsUnsupported
from contract.methods.merge import WeightedLora
from contract.methods.resize import ResizeOutcome, ResizeParams, ResizeSettings
from contract.methods.weights import WeightsFile
from contract.rules.families import detect
from kernel.engines.factors import fitting
from kernel.engines.factors.alignment import FileNaming, Target, align
from kernel.engines.factors.beside import beside
from kernel.engines.factors.convert import CONVERTIBLE, Approximations, Converted
from kernel.engines.factors.emission import Emission, copied, write
from kernel.engines.factors.limits import Limits
from kernel.engines.factors.loras import Weighted, published_sites
from kernel.engines.factors.networks import check_numbers
from kernel.engines.factors.ranks import Spectrum, rank_of
from kernel.engines.factors.remade import Aim, Remade
from kernel.engines.factors.resized import Cores, Resized
from kernel.engines.factors.sources import Codes, Source, is_low_rank
from kernel.engines.factors.workers import Workers
from kernel.surgery import Surgery
from trainer.weights.adapter_config import CONFIG_KEY
from trainer.weights.adapter_file import LOW_RANK, Adapter, AdapterModule, read_adapter
from trainer.weights.adapter_keys import AdapterNaming, Role, key, naming_of
from trainer.weights.adapter_output import even_alpha
from trainer.weights.dtypes import SHORT_NAMES
from trainer.weights.metadata import after_resize
from trainer.weights.names import Sites
from trainer.weights.tensor_file import TensorFile
from trainer.weights.tensor_writer import Written

#: Modules, and names that are unchanged, that an outcome lists.
MAX_LISTED: Final = 10_000
#: What the host is told that the output is.
ROLE: Final = "lora"
#: Names that a warning repeats.
_NAMED: Final = 5


def resize(params: ResizeParams, surgery: Surgery) -> ResizeOutcome:
    """Resize a LoRA into the output.

    Raises WeightsMismatch for a file that is no adapter, WeightsUnknown, WeightsUnsupported,
    WeightsNotFinite, InvalidParams, JobCanceled, and what reading and writing raise.
    """
    started = time.perf_counter()
    adapter = _adapter(surgery.open(params.inputs.file, "$.params.inputs.file"))
    family, sites = _family(adapter, params.settings)
    modules = _sorted_out(adapter, family, sites, params.settings)
    read = time.perf_counter()
    with Workers() as workers:
        resizing = _Resizing(adapter, family, sites, modules, params.settings, surgery)
        resizing.look(workers)
        plan = resizing.plan()
        looked = time.perf_counter()
        written = write(surgery, workers, plan.emissions, plan.metadata)
    outcome = resizing.outcome(plan, written)
    ended = time.perf_counter()
    outcome.timings = {
        "read_s": round(read - started, 4),
        "core_s": round(looked - read, 4),
        "write_s": round(ended - looked, 4),
    }
    return outcome


class _Modules(NamedTuple):
    """The modules of the output by what is done with them. `obscure` would be converted if their kernel were
    known, and pass like those of `passed`; `dropped` are those the settings leave out."""

    sources: list[Source]
    convertible: list[Target]
    obscure: list[Target]
    passed: list[Target]
    dropped: list[str]
    limits: Limits


class _Plan(NamedTuple):
    """All that is to be written; `value` is the one that a dynamic method works with."""

    made: list[Remade]
    emissions: list[Emission]
    metadata: dict[str, str]
    value: float | None


def _adapter(file: TensorFile) -> Adapter:
    adapter = read_adapter(file)
    if not adapter.modules:
        raise WeightsMismatch(f"`{file.where}` has no modules of a LoRA.", where=file.where)
    return adapter


def _family(adapter: Adapter, settings: ResizeSettings) -> tuple[str | None, Sites]:
    """The family and its sites; none where the file does not tell and nothing that is asked for needs it.

    Raises WeightsUnknown.
    """
    shapes = {name: tensor.shape for name, tensor in adapter.file.header.tensors.items()}
    found = detect(shapes, adapter.file.header.metadata)
    if found.family is not None:
        return found.family, published_sites(found.family, [adapter])
    if settings.blocks or settings.naming not in ("keep", adapter.naming):
        where, what = adapter.file.where, "blocks" if settings.blocks else "naming"
        raise WeightsUnknown(
            f"`{what}` needs to know what model `{where}` is made for. {found.reason or ''}".rstrip(),
            where=where,
            hint=f"Leave `{what}` out.",
        )
    return None, Sites("", (), [])


def _sorted_out(adapter: Adapter, family: str | None, sites: Sites, settings: ResizeSettings) -> _Modules:
    limits = Limits(settings, sites)
    lora = WeightedLora(model=WeightsFile(path=adapter.file.path))
    modules = _Modules([], [], [], [], [], limits)
    _check_names(adapter, sites, settings)
    for target in align([Weighted(adapter, family, lora)], sites, settings.naming):
        first = target.pieces[0].module
        if limits.of(first.name, is_conv=target.is_conv) == 0:
            modules.dropped.append(target.name)
        elif is_low_rank(target):
            modules.sources.append(Source(adapter, target))
        elif settings.convert and first.network in CONVERTIBLE and _is_plain(target):
            check_numbers(adapter, first)
            (modules.convertible if target.knows_kernel else modules.obscure).append(target)
        else:
            _check_passed(adapter, target)
            modules.passed.append(target)
    return modules


def _check_names(adapter: Adapter, sites: Sites, settings: ResizeSettings) -> None:
    """Raises WeightsUnsupported for modules that no name in another naming is known of, with all of them."""
    if settings.naming == "keep":
        return
    names = [
        name for name in adapter.modules if naming_of(name) != settings.naming and sites.find(name) is None
    ]
    if names:
        where = adapter.file.where
        raise WeightsUnsupported(
            f"{_listed(names)} in `{where}`: the naming {settings.naming} has no name for them.",
            where=where,
            hint="Keep the naming of the input.",
            details={"modules": names[:MAX_LISTED]},
        )


def _is_plain(target: Target) -> bool:
    """Whether it is one module with all of its rows in their order."""
    return len(target.pieces) == 1 and target.pieces[0].segments is None


def _check_passed(adapter: Adapter, target: Target) -> None:
    """Raises WeightsUnsupported for a module without factors whose rows the output's naming spreads."""
    if _is_plain(target):
        return
    names = sorted({piece.module.name for piece in target.pieces if piece.module.network not in LOW_RANK})
    where = adapter.file.where
    raise WeightsUnsupported(
        f"{', '.join(f'`{name}`' for name in names)} in `{where}` cannot be split or fused into "
        f"`{target.name}`: only LoRAs can.",
        where=where,
        hint="Keep the naming of the input.",
        details={"modules": names},
    )


class _Resizing:
    """One job: the spectra of its modules, and what follows from them."""

    def __init__(
        self,
        adapter: Adapter,
        family: str | None,
        sites: Sites,
        modules: _Modules,
        settings: ResizeSettings,
        surgery: Surgery,
    ) -> None:
        self._adapter = adapter
        self._family = family
        self._sites = sites
        self._modules = modules
        self._settings = settings
        self._surgery = surgery
        self._cores = Cores(surgery.device, surgery.output)
        self._approximations = Approximations(adapter, surgery.device, surgery.output)
        self._caps = {
            source.name: modules.limits.of(source.pieces[0].module.name, is_conv=source.is_conv)
            for source in modules.sources
        }
        self._spectra: list[Spectrum] = []

    def look(self, workers: Workers) -> None:
        """The first pass: the spectra of all LoRA modules."""
        sources = self._modules.sources
        self._surgery.step("analyse", 0, len(sources), unit="modules")
        spectra = workers.map(lambda source: self._cores.spectrum(source, self._caps[source.name]), sources)
        for spectrum in spectra:
            self._spectra.append(spectrum)
            self._surgery.step("analyse", len(self._spectra), len(sources), unit="modules")

    def plan(self) -> _Plan:
        """What is to be written. Raises InvalidParams where no rank makes the file as small as asked for."""
        settings = self._settings
        limit = settings.target_size_mb
        if limit is None:
            return self._planned(settings.value)
        if settings.method == "fixed":
            most = max([*self._caps.values(), 1])
            return self._planned(
                None, fitting.highest_rank(lambda most: self._bytes(None, most), most, limit)
            )
        return self._planned(fitting.highest_value(self._bytes, settings.method, limit))

    def outcome(self, plan: _Plan, written: Written) -> ResizeOutcome:
        """What came out, announced to the host."""
        artifact = self._surgery.announce(written, ROLE)
        square = sum(each.square for each in plan.made)
        error = (sum(each.lost for each in plan.made) / square) ** 0.5 if square > 0 else 0.0
        passed = (*self._modules.passed, *self._modules.obscure)
        unchanged = [*(target.name for target in passed), *self._adapter.unknown]
        return ResizeOutcome(
            file=artifact.path,
            bytes=written.bytes,
            sha256=written.sha256,
            modules=[each.said() for each in plan.made[:MAX_LISTED]],
            fro_retained=max(0.0, 1 - error**2) ** 0.5,
            error=error,
            value=plan.value,
            unchanged=unchanged[:MAX_LISTED],
            warnings=self._warnings(),
            artifacts=[artifact],
        )

    def _bytes(self, value: float | None, most: int | None = None) -> int:
        plan = self._planned(value, most)
        return fitting.file_bytes([each.spec for each in plan.emissions], plan.metadata)

    def _planned(self, value: float | None, most: int | None = None) -> _Plan:
        """With `value` for a dynamic method, and `most` as a bound of all ranks."""
        sources = self._modules.sources
        ranks = [
            self._rank(source, spectrum, value, most)
            for source, spectrum in zip(sources, self._spectra, strict=True)
        ]
        scales = [source.scale for source in sources]
        # What is converted has its scale in its factors.
        converted = [(1.0, self._settings.rank)] if self._modules.convertible else []
        even = even_alpha([*zip(scales, ranks, strict=True)] or converted)
        made: list[Remade] = [
            self._resized(source, spectrum, rank, even)
            for source, spectrum, rank in zip(sources, self._spectra, ranks, strict=True)
        ]
        made += [self._converted(target, most, even) for target in self._modules.convertible]
        made.sort(key=lambda each: each.out.name)
        return _Plan(made, self._emissions(made), self._metadata(made, value), value)

    def _rank(self, source: Source, spectrum: Spectrum, value: float | None, most: int | None) -> int:
        cap = min(self._caps[source.name], most or self._caps[source.name])
        return rank_of(spectrum, self._settings.method, value, cap)

    def _resized(self, source: Source, spectrum: Spectrum, rank: int, even: float) -> Resized:
        aim = self._aim(rank, source.codes, source.name, has_alpha=source.has_alpha, even=even)
        return Resized(source, spectrum, aim, self._cores)

    def _converted(self, target: Target, most: int | None, even: float) -> Converted:
        module = target.pieces[0].module
        cap = self._modules.limits.of(module.name, is_conv=target.is_conv)
        code = self._adapter.file.header.tensors[_first_key(module)].dtype
        rank, codes = min(cap, most or cap), Codes(code, code, code)
        aim = self._aim(rank, codes, target.name, has_alpha=module.has_alpha, even=even)
        return Converted(target, aim, self._approximations)

    def _aim(self, rank: int, codes: Codes, name: str, *, has_alpha: bool, even: float) -> Aim:
        settings = self._settings
        if settings.dtype != "keep":
            codes = Codes(*(SHORT_NAMES[settings.dtype],) * 3)
        # Peft and ComfyUI take the rank where there is none; kohya's own tools look for one.
        keeps = settings.naming == "keep" and has_alpha
        return Aim(rank, codes, settings.alpha, keeps or self._naming(name) == "kohya", even)

    def _emissions(self, made: Sequence[Remade]) -> list[Emission]:
        emissions = [
            emission
            for each in made
            for key_of in [self._key_of(each)]
            for emission in [
                *each.emissions(key_of),
                *beside(self._adapter, each, key_of, self._naming(each.out.name)),
            ]
        ]
        for target in (*self._modules.passed, *self._modules.obscure):
            emissions += self._copies(target)
        return emissions + [copied(self._adapter, each) for each in self._adapter.unknown]

    def _copies(self, target: Target) -> list[Emission]:
        module, naming = target.pieces[0].module, self._naming(target.name)
        is_renamed = target.name != module.name
        return [
            copied(self._adapter, each, key(target.name, role, naming) if is_renamed else each)
            for role, each in module.keys.items()
        ]

    def _key_of(self, made: Remade) -> Callable[[Role], str]:
        """How the tensors of a module are called: as in the input where its name is the same."""
        module = made.pieces[0].module
        keys = module.keys if len(made.pieces) == 1 and made.out.name == module.name else {}
        return partial(_key, keys, made.out.name, self._naming(made.out.name))

    def _naming(self, name: str) -> FileNaming:
        return naming_of(name) if self._settings.naming == "keep" else self._settings.naming

    def _metadata(self, made: Sequence[Remade], value: float | None) -> dict[str, str]:
        said = {name: text for name, text in self._adapter.file.header.metadata.items() if name != CONFIG_KEY}
        if not made:
            return said
        return after_resize(
            said,
            family=self._family,
            old_ranks=[sum(piece.module.rank or 0 for piece in each.pieces) for each in made],
            ranks=[each.out.rank for each in made],
            alphas=[each.alpha for each in made],
            method=self._settings.method,
            value=value,
        )

    def _warnings(self) -> list[str]:
        modules = self._modules
        targets: tuple[Source | Target, ...] = (*modules.sources, *modules.convertible)
        doras = [each.name for each in targets if "dora_scale" in each.pieces[0].module.keys]
        hint = "" if self._settings.convert else "; `convert` makes LoRAs of LoHa and LoKr"
        passed, obscure = ([each.name for each in some] for some in (modules.passed, modules.obscure))
        said = (
            (modules.dropped, "left out, as `blocks` has 0 for them"),
            (doras, "DoRA: their magnitudes are of the weight with the LoRA in it, and are kept as they are"),
            (passed, f"no pair of factors, and kept as they are{hint}"),
            (obscure, "kept as they are, as nothing says whether they are convolutions"),
            (self._adapter.unknown, "part of no module that is known, and kept as they are"),
        )
        return [f"{_listed(names)}: {what}." for names, what in said if names]


def _first_key(module: AdapterModule) -> str:
    return next(each for role, each in module.keys.items() if role not in ("alpha", "dora_scale"))


def _key(keys: dict[Role, str], name: str, naming: AdapterNaming, role: Role) -> str:
    return keys.get(role) or key(name, role, naming)


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
