"""Every optimizer by the `type` of its settings, which have its arguments and their meaning."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch

from contract.methods.training.components import COMPONENTS, Component
from contract.methods.training.optimizer import CustomOptimizer, Optimizer
from trainer.optimizers.kind import Group, OptimizerKind
from trainer.optimizers.particular import AdafactorKind, AdamWKind, CustomKind, ProdigyKind

_ALL: Final = (
    AdamWKind("adamw", "torch.optim.AdamW"),
    OptimizerKind("adamw8bit", "bitsandbytes.optim.AdamW8bit"),
    OptimizerKind("lion", "trainer.optimizers.lion.Lion"),
    AdafactorKind("adafactor", "transformers.optimization.Adafactor"),
    ProdigyKind("prodigy", "prodigyopt.Prodigy"),
    OptimizerKind("adamw_schedule_free", "schedulefree.AdamWScheduleFree"),
    OptimizerKind("sgd_schedule_free", "schedulefree.SGDScheduleFree"),
    OptimizerKind("radam_schedule_free", "schedulefree.RAdamScheduleFree"),
)

#: Every kind but those that a user imports.
OPTIMIZERS: Final[Mapping[str, OptimizerKind]] = {kind.name: kind for kind in _ALL}


def kind_of(settings: Optimizer) -> OptimizerKind:
    """What the settings ask for."""
    if isinstance(settings, CustomOptimizer):
        return CustomKind(settings.import_name)
    return OPTIMIZERS[str(settings.__struct_config__.tag)]


def optimizer_of(
    settings: Optimizer, parameters: Mapping[Component, Sequence[torch.nn.Parameter]]
) -> torch.optim.Optimizer:
    """The optimizer over all components that are trained, a group each, in the order of COMPONENTS.

    Raises DependencyMissing where its package is not installed, and InvalidParams where it refuses what it
    is given.
    """
    groups = [
        Group(name, parameters[name], settings.rate_of(name))
        for name in COMPONENTS
        if parameters.get(name) and settings.rate_of(name) > 0
    ]
    return kind_of(settings).build(groups, settings.arguments_of_class())
