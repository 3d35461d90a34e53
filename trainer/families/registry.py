"""The families that can be trained, and which of them a model is of."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Final

from contract.errors import WeightsUnsupported
from contract.rules.families import TITLES
from contract.rules.paths import to_wire
from trainer.families.base import Family, ModelFiles, Recognised
from trainer.families.sd15 import SD15
from trainer.families.sdxl import SDXL
from trainer.families.source import open_denoiser

#: Name → family.
FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in (SD15, SDXL)})


def recognise(files: ModelFiles) -> Recognised:
    """What a model is, by its headers and without torch.

    Raises WeightsUnsupported for a family that cannot be trained, WeightsUnknown, WeightsMismatch for a file
    that is no model, and what `open_weights` does.
    """
    with ExitStack() as stack:
        recognised = open_denoiser(files.model, stack).recognised
    if recognised.family not in FAMILIES:
        where = to_wire(files.model)
        known = " and ".join(TITLES[name] for name in FAMILIES)
        raise WeightsUnsupported(
            f"`{where}` is a model of {TITLES[recognised.family]}; LoRAs are trained for {known}.",
            where=where,
            details={"family": recognised.family},
        )
    return recognised
