"""LoRAs into one: ΔW = Σ weight · ΔWᵢ, exactly or as well as one rank can."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import torch

from contract.methods.merge import LoraMerge, LoraMethod, MergeOutcome
from kernel.engines.factors.alignment import Target, align, naming_for
from kernel.engines.factors.loras import (
    Weighted,
    check_weights,
    left_out,
    one_family,
    open_loras,
    published_sites,
)
from kernel.engines.factors.pieces import Frame, Made, WrittenAs, frames
from kernel.engines.factors.product import Plan, produce
from kernel.engines.factors.sparse import Dare, Ties
from kernel.engines.factors.spectra import Svd
from kernel.engines.factors.sums import Add, Concat
from kernel.surgery import Surgery
from trainer.weights.metadata import recipe_text


class Method(Protocol):
    """A way to merge. `is_estimate`: the errors that it states are estimates."""

    is_estimate: bool

    def rank(self, target: Target) -> int:
        """The rank of a module of the output, from headers alone."""
        ...

    def merge(self, target: Target, frame: Frame) -> Made:
        """The factors of a module. Runs on any thread."""
        ...


#: LoRAs, the modules of the output, settings and where to compute → the method.
METHODS: Final[
    Mapping[LoraMethod, Callable[[Sequence[Weighted], Sequence[Target], LoraMerge, torch.device], Method]]
] = {
    "concat": lambda loras, targets, settings, device: Concat(loras),
    "add": lambda loras, targets, settings, device: Add(loras, targets),
    "svd": lambda loras, targets, settings, device: Svd(loras, settings, device),
    "ties": lambda loras, targets, settings, device: Ties(loras, settings, device),
    "dare": lambda loras, targets, settings, device: Dare(loras, settings, device),
}


def merge_loras(settings: LoraMerge, surgery: Surgery) -> MergeOutcome:
    """Merge LoRAs into the output.

    Raises WeightsUnknown, WeightsMismatch, WeightsUnsupported, WeightsNotFinite, InvalidParams, JobCanceled,
    and what reading and writing raise.
    """
    started = time.perf_counter()
    loras, inputs = open_loras(settings.loras, surgery)
    family = one_family(loras)
    sites = published_sites(family, [each.adapter for each in loras])
    check_weights(loras, sites)
    targets = align(loras, sites, settings.naming)
    method = METHODS[settings.method](loras, targets, settings, surgery.device)
    written_as = WrittenAs(naming_for(loras, settings.naming), settings.alpha, settings.dtype, surgery.output)
    made = frames(targets, [method.rank(target) for target in targets], loras, written_as)
    plan = Plan(
        phase="merge",
        started=started,
        family=family,
        frames=made,
        inputs=inputs,
        left_out=left_out(loras),
        recipe=recipe_text(settings),
        is_exact=settings.method == "concat",
        is_estimate=method.is_estimate,
    )
    return produce(surgery, plan, lambda index: method.merge(targets[index], made[index]))
