"""Which modules of several LoRAs belong together, and where the rows of each lie in the module that is made.

The same weight has one name in each naming, and some namings fuse what others split: kohya's FLUX has one
module for the projections q, k and v, diffusers three. A module of a part is a module of the whole whose
other rows are zero, and a part of a whole is some of its rows, so both ways are exact.
"""

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Final, Literal, NamedTuple

import torch

from contract.errors import WeightsMismatch, WeightsUnsupported
from contract.methods.weights import Naming
from kernel.engines.factors.loras import Weighted
from kernel.engines.factors.networks import matrix_shape
from trainer.weights.adapter_file import Adapter, AdapterModule
from trainer.weights.adapter_keys import naming_of
from trainer.weights.names import Site, Sites

FileNaming = Literal["kohya", "peft", "generic"]
_WHOLE: Final = Fraction(1)


class Segment(NamedTuple):
    """`size` rows: from `source` of the module that is read to `target` of the one that is made."""

    source: int
    target: int
    size: int


class Piece(NamedTuple):
    """What a module of an input gives to one of the output, and how much of it.

    `segments` None: all of its rows, as they are.
    """

    lora: int
    module: AdapterModule
    weight: float
    segments: tuple[Segment, ...] | None = None


class Target(NamedTuple):
    """A module of the output. `shape` is that of the weight it changes; `pieces` are in the order of the
    inputs. Without `knows_kernel` it is of LoHas and LoKrs alone, and nothing says whether the columns of
    their matrices are those of a kernel."""

    name: str
    shape: tuple[int, ...]
    pieces: list[Piece]
    knows_kernel: bool = True

    @property
    def is_conv(self) -> bool:
        """Whether it has a kernel larger than 1 × 1."""
        return prod(self.shape[2:]) > 1


def ranks_of(pieces: Sequence[Piece]) -> dict[int, int]:
    """The rank that each LoRA has in a module, by its place; that of several modules is their sum."""
    ranks: dict[int, int] = {}
    for piece in pieces:
        ranks[piece.lora] = ranks.get(piece.lora, 0) + (piece.module.rank or 0)
    return ranks


class _Member(NamedTuple):
    lora: int
    module: AdapterModule
    site: Site | None


def naming_for(loras: Sequence[Weighted], wanted: Naming) -> FileNaming:
    """The naming of the output: the one that is wanted, or that of the first input."""
    if wanted != "keep":
        return wanted
    adapter = loras[0].adapter
    return naming_of(next(iter(adapter.modules))) if adapter.naming == "mixed" else adapter.naming


def align(loras: Sequence[Weighted], sites: Sites, wanted: Naming) -> list[Target]:
    """The modules of the output, which are all of the inputs', by name.

    Raises WeightsMismatch for shapes that differ, WeightsUnsupported for a module that the output's naming
    has no name for, and for one that a file has twice.
    """
    for each in loras:
        check_once(each.adapter, sites)
    groups: dict[str, list[_Member]] = defaultdict(list)
    for index, each in enumerate(loras):
        for module in each.adapter.modules.values():
            site = sites.find(module.name)
            groups[module.name if site is None else site.weight].append(_Member(index, module, site))
    aligner = _Aligner(loras, sites, naming_for(loras, wanted), keeps=wanted == "keep")
    targets = [target for members in groups.values() for target in aligner.targets(members)]
    return sorted(targets, key=lambda target: target.name)


def check_once(adapter: Adapter, sites: Sites) -> None:
    """Raises WeightsUnsupported for a module that is there twice, by names of two namings: some programs
    would take the first, some the last, and none the sum."""
    names: dict[Site, str] = {}
    for module in adapter.modules.values():
        site = sites.find(module.name)
        if site is not None and names.setdefault(site, module.name) != module.name:
            where = adapter.file.where
            raise WeightsUnsupported(
                f"`{names[site]}` and `{module.name}` in `{where}` are names of one module.",
                where=where,
                details={"key": next(iter(module.keys.values()))},
            )


class _Aligner:
    def __init__(self, loras: Sequence[Weighted], sites: Sites, naming: FileNaming, *, keeps: bool) -> None:
        self._loras = loras
        self._sites = sites
        self._naming = naming
        # Names stay as they are where all files say them in the same way.
        self._keeps = keeps and len({each.adapter.naming for each in loras}) == 1

    def targets(self, members: list[_Member]) -> list[Target]:
        """The modules that are made of the modules of one weight."""
        by_site: dict[Site | None, list[_Member]] = defaultdict(list)
        for member in members:
            by_site[member.site].append(member)
        names = {site: self._name(site, each) for site, each in by_site.items()}
        if all(names.values()) and _are_apart([site for site in by_site if site]):
            return [self._direct(str(names[site]), site, each) for site, each in by_site.items()]
        return self._refitted(members)

    def _name(self, site: Site | None, members: list[_Member]) -> str | None:
        """What modules of one site are called in the output; None where its naming has no name for it."""
        names = {member.module.name for member in members}
        if len(names) == 1 and (self._keeps or naming_of(next(iter(names))) == self._naming):
            return names.pop()
        return None if site is None else site.name(self._naming)

    def _direct(self, name: str, site: Site | None, members: list[_Member]) -> Target:
        shape = self._common_shape(members)
        pieces = [self._piece(member, None) for member in members]
        if any(_knows_kernel(member.module) for member in members):
            return Target(name, shape, pieces)
        kernel = None if site is None else site.shape[2:]
        if kernel is None or shape[1] % prod(kernel):
            return Target(name, shape, pieces, knows_kernel=False)
        return Target(name, (shape[0], shape[1] // prod(kernel), *kernel), pieces)

    def _refitted(self, members: list[_Member]) -> list[Target]:
        """Modules of the sites that have a name in the output, with the rows of all members in them."""
        first = members[0]
        if first.site is None:
            raise self._inexpressible(first)
        places = named_sites(self._sites, first.site.weight, self._naming)
        scale = self._scale(members)
        targets = []
        covered: dict[tuple[int, str], int] = defaultdict(int)
        for place in places:
            pieces = []
            for member in members:
                assert member.site is not None
                segments = _segments(member.site, place, scale)
                if segments:
                    covered[member.lora, member.module.name] += sum(each.size for each in segments)
                    pieces.append(self._piece(member, tuple(segments)))
            if pieces:
                shape = (_scaled(place.shape[0], scale), *first.module.shape[1:])
                targets.append(Target(str(place.name(self._naming)), shape, pieces))
        for member in members:
            if covered[member.lora, member.module.name] < member.module.shape[0]:
                raise self._inexpressible(member)
        return targets

    def _scale(self, members: list[_Member]) -> Fraction:
        """How much smaller the model is than the published one, whose rows the sites name."""
        scales = {Fraction(each.module.shape[0], each.site.shape[0]) for each in members if each.site}
        if len(scales) != 1 or len({each.module.shape[1:] for each in members}) != 1:
            raise self._mismatch(members)
        scale = scales.pop()
        bounds = {row for each in members if each.site for row in _span(each.site)}
        if any((row * scale).denominator != 1 for row in bounds):
            raise self._inexpressible(members[0])
        return scale

    def _piece(self, member: _Member, segments: tuple[Segment, ...] | None) -> Piece:
        weight = self._loras[member.lora].weight(member.site)
        return Piece(member.lora, member.module, weight, segments)

    def _common_shape(self, members: list[_Member]) -> tuple[int, ...]:
        """The shape of the weight; a LoHa or LoKr does not know its kernel, so the longest says it."""
        shape = max((member.module.shape for member in members), key=len)
        if any(not fits(member.module, shape) for member in members):
            raise self._mismatch(members)
        return shape

    def _mismatch(self, members: list[_Member]) -> WeightsMismatch:
        first = members[0]
        other = next((each for each in members if each.module.shape != first.module.shape), members[-1])
        said = [
            f"`{each.module.name}` in `{self._loras[each.lora].adapter.file.where}` is for "
            f"{list(each.module.shape)}"
            for each in (first, other)
        ]
        where = self._loras[other.lora].adapter.file.where
        return WeightsMismatch(
            f"{', '.join(said)}: they are not made for the same model.",
            where=where,
            details={
                "key": next(iter(other.module.keys.values())),
                "files": [self._loras[each.lora].adapter.file.where for each in (first, other)],
            },
        )

    def _inexpressible(self, member: _Member) -> WeightsUnsupported:
        where = self._loras[member.lora].adapter.file.where
        return WeightsUnsupported(
            f"`{member.module.name}` in `{where}` has no name in the naming {self._naming}.",
            where=where,
            hint="Choose the naming that this file has.",
            details={"key": next(iter(member.module.keys.values()))},
        )


def named_sites(sites: Sites, weight: str, naming: FileNaming) -> list[Site]:
    """The sites of a weight that have a name in a naming, without parts of one that has."""
    chosen: list[Site] = []
    for site in sites.by_weight(weight):
        if site.name(naming) is not None and not any(_overlap(site, each) for each in chosen):
            chosen.append(site)
    return chosen


def placed(rows: torch.Tensor, segments: tuple[Segment, ...] | None, out: int) -> torch.Tensor:
    """`rows` of a module at their places among `out` rows, zeros elsewhere; the same tensor where that is
    all it is."""
    if segments is None:
        return rows
    result = rows.new_zeros(out, *rows.shape[1:])
    for source, target, size in segments:
        result[target : target + size] = rows[source : source + size]
    return result


def directions(up: torch.Tensor, segments: tuple[Segment, ...] | None) -> torch.Tensor | None:
    """The columns of `up`, as it is at its places, that are not all zero: a module that is split has
    directions which belong to its other parts alone. At least one; None for all of them."""
    if segments is None:
        return None
    found = up.bool().any(dim=0).nonzero().flatten()
    if len(found) == up.shape[1]:
        return None
    return found if len(found) else found.new_zeros(1)


def fits(module: AdapterModule, shape: tuple[int, ...]) -> bool:
    """Whether a module can change a weight of `shape`; a LoHa or LoKr need not know its kernel."""
    if not _knows_kernel(module):
        return matrix_shape(module.shape) == matrix_shape(shape)
    return _plain(module.shape) == _plain(shape)


def _knows_kernel(module: AdapterModule) -> bool:
    return module.network not in ("loha", "lokr") or len(module.shape) != 2


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with a 1 × 1 kernel as that of a linear layer: files have both for the same weight."""
    return shape[:2] if prod(shape[2:]) == 1 else shape


def _span(site: Site) -> tuple[int, int]:
    return (0, site.shape[0]) if site.rows is None else site.rows


def _overlap(site: Site, other: Site) -> bool:
    (start, stop), (first, last) = _span(site), _span(other)
    return start < last and first < stop


def _are_apart(sites: list[Site]) -> bool:
    return not any(_overlap(site, other) for index, site in enumerate(sites) for other in sites[index + 1 :])


def _scaled(rows: int, scale: Fraction) -> int:
    return int(rows * scale)


def laid_out(site: Site, scale: Fraction = _WHOLE) -> list[Segment]:
    """The rows of a site in those of its weight: `source` in the module, `target` in the weight."""
    start, stop = (_scaled(row, scale) for row in _span(site))
    if not site.swapped:
        return [Segment(0, start, stop - start)]
    half = (stop - start) // 2
    return [Segment(0, start + half, half), Segment(half, start, half)]


def _segments(source: Site, target: Site, scale: Fraction) -> list[Segment]:
    """The rows that two sites of one weight share."""
    shared = []
    for a in laid_out(source, scale):
        for b in laid_out(target, scale):
            start = max(a.target, b.target)
            stop = min(a.target + a.size, b.target + b.size)
            if start < stop:
                shared.append(Segment(a.source + start - a.target, b.source + start - b.target, stop - start))
    return shared
