"""The kinds of networks: which modules each is put over."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from contract.methods.training.network import LoconNetwork, LoraNetwork
from trainer.networks.targets import Target
from trainer.weights.names import LINEAR_KINDS, Kind

_LINEAR: Final[frozenset[Kind]] = frozenset(LINEAR_KINDS)


class NetworkKind(Struct, frozen=True, kw_only=True):
    """`kinds` are those of its modules, `module` what kohya's metadata call it."""

    name: str
    kinds: frozenset[Kind]
    module: str = "networks.lora"

    def has(self, target: Target) -> bool:
        """Whether it has a module there. Of convolutions and of layers for the time only those inside of
        blocks: no known program trains the first and the last layers of a model."""
        kind = target.site.kind
        return kind in self.kinds and (kind in _LINEAR or "block" in target.path.partition(".")[0])


_LORA: Final = NetworkKind(name="lora", kinds=_LINEAR)
#: As sd-scripts with `conv_dim`: all layers of the residual blocks too, and those between the levels.
_LOCON: Final = NetworkKind(name="locon", kinds=_LINEAR | {"conv", "time"})

#: Kinds by their settings.
KINDS: Final[Mapping[type[LoraNetwork | LoconNetwork], NetworkKind]] = {
    LoraNetwork: _LORA,
    LoconNetwork: _LOCON,
}
