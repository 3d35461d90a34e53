"""What programs will load of an adapter, also of one that may be for several families."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from contract.methods.inspect import Consumer
from contract.rules.families import TITLES
from kernel.engines.inspection.bounds import names
from trainer.weights.adapter_file import Adapter
from trainer.weights.consumers import consumers
from trainer.weights.names import FAMILIES, Sites, fitting

#: Families that are judged where the keys allow several; a file that allows more of them says nothing.
_CANDIDATES: Final = 3


def models(adapter: Adapter, candidates: Sequence[str]) -> list[Sites]:
    """The published models that it may be for; none where that is anybody's guess."""
    known = [family for family in candidates if family in FAMILIES]
    shapes = {name: module.shape for name, module in adapter.modules.items()}
    return [fitting(family, shapes) for family in known] if len(known) <= _CANDIDATES else []


def programs(keys: Sequence[str], models: Sequence[Sites], alphas: Mapping[str, float]) -> list[Consumer]:
    """What each program makes of it: once where that is the same for all models, else once for each."""
    read = [consumers(keys, sites, alphas) for sites in models]
    found: list[Consumer] = []
    for each in zip(*read, strict=True):
        if all(other == each[0] for other in each):
            found.append(each[0])
        else:
            found += [
                replace(one, name=f"{one.name}, {TITLES[sites.family]}")
                for one, sites in zip(each, models, strict=True)
            ]
    return [replace(each, unmatched=names(each.unmatched)) for each in found]
