"""The LoRAs of a job, opened: the modules of each, its family, and how much of each module is meant."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contract.errors import InvalidParams, WeightsMismatch, WeightsUnknown
from contract.methods.merge import MergeInput, WeightedLora
from contract.rules.families import TITLES, Found, detect
from kernel.surgery import Surgery
from trainer.weights import names
from trainer.weights.adapter_file import Adapter, read_adapter
from trainer.weights.names import Site, Sites
from trainer.weights.tensor_file import TensorFile


class Weighted(NamedTuple):
    """An adapter and how much of it. `family` is None where its keys do not tell: then `candidates` are those
    that they allow, and `reason` says why."""

    adapter: Adapter
    family: str | None
    settings: WeightedLora
    candidates: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """Those it may be made for."""
        return self.candidates if self.family is None else (self.family,)

    def weight(self, site: Site | None) -> float:
        """That of a module at `site`: its block's, else its component's, else the LoRA's."""
        if site is None:
            return self.settings.weight
        of_component = self.settings.components.get(site.component, self.settings.weight)
        return self.settings.blocks.get(site.block, of_component)


class OpenedLoras(NamedTuple):
    """What `open_loras` gives: the LoRAs in their order, and what the outcome says of their files."""

    loras: list[Weighted]
    inputs: list[MergeInput]


def open_loras(
    loras: Sequence[WeightedLora], surgery: Surgery, where: str = "$.params.settings.loras"
) -> OpenedLoras:
    """Open LoRAs and read their headers. `where` is their place in the params.

    Raises what opening and reading raises, and WeightsMismatch for a file that is no adapter.
    """
    opened = []
    for index, settings in enumerate(loras):
        file = surgery.open(settings.model, f"{where}[{index}].model.path")
        opened.append(weighted(file, settings))
    inputs = [MergeInput(file=each.adapter.file.where, sha256=each.settings.model.sha256) for each in opened]
    return OpenedLoras(opened, inputs)


def weighted(file: TensorFile, settings: WeightedLora) -> Weighted:
    """A LoRA, by its header. Raises what `read_adapter` raises, WeightsMismatch for a file that is none."""
    found = _found(file)
    return Weighted(_adapter(file), found.family, settings, found.candidates, found.reason)


def family_of(file: TensorFile) -> str | None:
    """The family that a file's keys and shapes show; None where they do not tell."""
    return _found(file).family


def _found(file: TensorFile) -> Found:
    return detect({name: tensor.shape for name, tensor in file.header.tensors.items()}, file.header.metadata)


def one_family(loras: Sequence[Weighted]) -> str:
    """The family that all of them can be made for.

    Raises WeightsUnknown where that is none or several, WeightsMismatch where they differ.
    """
    left: tuple[str, ...] = ()
    for index, each in enumerate(loras):
        if not each.families:
            raise _unknown(each)
        both = tuple(family for family in left if family in each.families) if index else each.families
        if not both:
            others = (other for other in loras[:index] if not set(other.families) & set(each.families))
            first = next(others, loras[0])
            raise family_mismatch(first.adapter.file.where, first.families, each)
        left = both
    if len(left) > 1:
        raise _unknown(loras[0])
    return left[0]


def family_mismatch(file: str, families: Sequence[str], other: Weighted) -> WeightsMismatch:
    """The error for a LoRA that is of another family than `file`."""
    where = other.adapter.file.where
    this, that = (" or ".join(TITLES[family] for family in each) for each in (families, other.families))
    return WeightsMismatch(
        f"`{file}` is made for {this}, `{where}` for {that}; they do not fit together.",
        where=where,
        details={"files": [file, where], "families": [*families, *other.families]},
    )


def _unknown(lora: Weighted) -> WeightsUnknown:
    where = lora.adapter.file.where
    return WeightsUnknown(
        f"What model `{where}` is made for cannot be told. {lora.reason or ''}".rstrip(), where=where
    )


def check_weights(loras: Sequence[Weighted], sites: Sites, where: str = "$.params.settings.loras") -> None:
    """Raises InvalidParams for a weight of a component or block that the model does not have."""
    components = {site.component for site in sites.all}
    blocks = {site.block for site in sites.all}
    for index, each in enumerate(loras):
        _check_names(each.settings.components, components, f"{where}[{index}].components", "component")
        _check_names(each.settings.blocks, blocks, f"{where}[{index}].blocks", "block")


def published_sites(family: str, adapters: Sequence[Adapter]) -> Sites:
    """The sites of the published model of a family that adapters were made for, by the shapes of their
    modules; none where no names are known of it."""
    if family not in names.FAMILIES:
        return Sites(family, (), [])
    modules = {name: module.shape for each in adapters for name, module in each.modules.items()}
    return names.fitting(family, modules)


def left_out(loras: Sequence[Weighted]) -> list[str]:
    """The keys that are no part of any module."""
    return [key for each in loras for key in each.adapter.unknown]


def _adapter(file: TensorFile) -> Adapter:
    adapter = read_adapter(file)
    if not adapter.modules:
        raise WeightsMismatch(
            f"`{file.where}` has no modules of a LoRA.",
            where=file.where,
            hint="Checkpoints are merged by `checkpoints`.",
        )
    return adapter


def _check_names(given: Mapping[str, float], known: set[str], where: str, what: str) -> None:
    for name in given:
        if name not in known:
            has = ", ".join(sorted(known)) or "none that are known"
            raise InvalidParams(f"The model has no {what} `{name}`; it has {has}.", where=where)
