"""What the modules of adapters are called in each naming, and which weights of a checkpoint they change.

Everything here works on names and shapes; no tensor is read and torch is not needed.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from trainer.weights.names.anima import ANIMA_NAMES
from trainer.weights.names.family import Family
from trainer.weights.names.flux import CHROMA_NAMES, FLUX1_NAMES, FLUX2_NAMES
from trainer.weights.names.hunyuan_image import HUNYUAN_IMAGE_NAMES
from trainer.weights.names.next_dit import LUMINA2_NAMES, Z_IMAGE_NAMES
from trainer.weights.names.qwen_image import QWEN_IMAGE_NAMES
from trainer.weights.names.sd3 import SD3_NAMES
from trainer.weights.names.site import LINEAR_KINDS, Kind, Site, Weights
from trainer.weights.names.sites import Sites
from trainer.weights.names.stable_diffusion import SD2_NAMES, SD15_NAMES, SDXL_NAMES, SDXL_REFINER_NAMES

__all__ = [
    "FAMILIES",
    "LINEAR_KINDS",
    "Family",
    "Kind",
    "Site",
    "Sites",
    "Weights",
    "block_of",
    "fitting",
    "published",
    "sites",
]

FAMILIES: Final[Mapping[str, Family]] = {
    family.id: family
    for family in (
        SD15_NAMES,
        SD2_NAMES,
        SDXL_NAMES,
        SDXL_REFINER_NAMES,
        SD3_NAMES,
        FLUX1_NAMES,
        FLUX2_NAMES,
        CHROMA_NAMES,
        LUMINA2_NAMES,
        ANIMA_NAMES,
        QWEN_IMAGE_NAMES,
        Z_IMAGE_NAMES,
        HUNYUAN_IMAGE_NAMES,
    )
}


def sites(family: str, weights: Weights) -> Sites:
    """The sites in a checkpoint of a family, or in one component of it, by its keys and shapes.

    Keys that are no weight of a module are passed over. Raises KeyError for a family without names.
    """
    return FAMILIES[family].sites(weights)


@cache
def published(family: str, variant: str | None = None) -> Sites:
    """The sites of a published model of a family, for adapters without a model: of its first variant, or of
    the one named (`FAMILIES[family].published`).

    Raises KeyError for a family without names, or without that variant.
    """
    known = FAMILIES[family]
    weights = known.published[next(iter(known.published)) if variant is None else variant]
    return known.sites(dict(weights()))


def fitting(family: str, modules: Weights) -> Sites:
    """The sites of the published variant that an adapter was made for: the one that has most of its modules,
    in the shapes (out, in, …) that `modules` gives. Raises KeyError for a family without names."""
    variants = [published(family, variant) for variant in FAMILIES[family].published]
    return max(variants, key=lambda each: _score(each, modules)) if len(variants) > 1 else variants[0]


def block_of(family: str, name: str) -> tuple[str, str] | None:
    """Component and block of a module by its name in any naming; None where no published model has it.

    Raises KeyError for a family without names.
    """
    for variant in FAMILIES[family].published:
        if (site := published(family, variant).find(name)) is not None:
            return site.component, site.block
    return None


def _score(sites: Sites, modules: Weights) -> tuple[int, int]:
    found = [(sites.find(name), tuple(shape)) for name, shape in modules.items()]
    named = [(site.shape, shape) for site, shape in found if site is not None]
    return sum(mine == shape for mine, shape in named), len(named)
