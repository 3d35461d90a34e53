"""What is in an adapter: its modules by type, component and block."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple

from contract.methods.inspect import AdapterSummary, BlockSummary
from kernel.engines.inspection.bounds import counts, names
from trainer.weights.adapter_file import Adapter, AdapterModule
from trainer.weights.names import Sites

#: What the names of modules of components begin with, where the family is not known.
_BEGINNINGS: Final = (
    ("te3", ("lora_te3_", "text_encoder_3.")),
    ("te2", ("lora_te2_", "text_encoder_2.")),
    ("te1", ("lora_te", "text_encoder")),
)
_DENOISER: Final = "unet"
_OUTSIDE: Final = "BASE"
_COMPONENTS: Final = (_DENOISER, "te1", "te2", "te3")


class Place(NamedTuple):
    """Where a module sits: the component and the block of it."""

    component: str
    block: str


#: Blocks of the adapter in the order of the model, with their modules.
Blocks = dict[Place, list[AdapterModule]]


def blocks(adapter: Adapter, sites: Sites | None) -> Blocks:
    """The modules by block. Where the model is not known, only the components are told apart."""
    found: defaultdict[Place, list[AdapterModule]] = defaultdict(list)
    for name, module in adapter.modules.items():
        found[_place(name, sites)].append(module)
    return dict(sorted(found.items(), key=lambda item: _depth(item[0])))


def _place(name: str, sites: Sites | None) -> Place:
    site = None if sites is None else sites.find(name)
    return Place(_component(name), _OUTSIDE) if site is None else Place(site.component, site.block)


def _component(name: str) -> str:
    return next((component for component, starts in _BEGINNINGS if name.startswith(starts)), _DENOISER)


#: Kinds of blocks in the order in which a picture passes them; others follow by name.
_KINDS: Final = (_OUTSIDE, "IN", "M", "OUT", "DOUBLE", "SINGLE")


def _depth(place: Place) -> tuple[int, int, str, int]:
    """Where a block stands in the order of its model: the denoiser first, from its input to its output."""
    kind = place.block.rstrip("0123456789")
    order = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    return _COMPONENTS.index(place.component), order, kind, int(place.block[len(kind) :] or 0)


def summary(adapter: Adapter, found: Blocks, norms: Mapping[Place, float | None]) -> AdapterSummary:
    """The summary of an adapter, its blocks as `blocks` gives them."""
    modules = adapter.modules.values()
    components = Counter[str]()
    for place, inside in found.items():
        components[place.component] += len(inside)
    return AdapterSummary(
        naming=adapter.naming,
        networks=dict(Counter(module.network for module in modules).most_common()),
        modules=len(modules),
        components={each: components[each] for each in _COMPONENTS if each in components},
        ranks=counts(module.rank for module in modules),
        alphas=counts(alpha(module) for module in modules),
        blocks=[_block(place, inside, norms.get(place)) for place, inside in found.items()],
        unpaired=names(adapter.unpaired),
        unknown=names(adapter.unknown),
        unpaired_total=len(adapter.unpaired),
        unknown_total=len(adapter.unknown),
    )


def alpha(module: AdapterModule) -> float | None:
    """What the file states; None where it does not, and alpha is the rank."""
    return module.alpha if module.has_alpha else None


def _block(place: Place, inside: list[AdapterModule], norm: float | None) -> BlockSummary:
    return BlockSummary(
        component=place.component,
        block=place.block,
        modules=len(inside),
        ranks=counts(module.rank for module in inside),
        alphas=counts(alpha(module) for module in inside),
        norm=norm,
    )
