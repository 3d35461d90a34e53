"""Small networks that are trained over a frozen model: LoRA, and LoCon with its convolutions.

`inject` puts one over the modules of a model, whose forward it replaces; `write_adapter` makes a file of it
that every program reads. What the modules are called is known to `trainer.weights.names`.
"""

from trainer.networks.injection import inject
from trainer.networks.kinds import KINDS
from trainer.networks.network import Network, ParameterGroup
from trainer.networks.starting import Started, start_from
from trainer.networks.writing import write_adapter

__all__ = [
    "KINDS",
    "Network",
    "ParameterGroup",
    "Started",
    "inject",
    "start_from",
    "write_adapter",
]
