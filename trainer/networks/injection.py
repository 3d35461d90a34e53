"""Puts a network over a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from contract.errors import InvalidParams
from trainer.networks.dropout import Dropout, Moment
from trainer.networks.filters import chosen
from trainer.networks.kinds import KINDS
from trainer.networks.locon import ConvLora
from trainer.networks.lora import LinearLora
from trainer.networks.network import Network, Place
from trainer.networks.targets import Target, targets

if TYPE_CHECKING:
    from contract.methods.training.network import Network as Settings
    from trainer.networks.low_rank import LowRank


def inject(family: str, components: Mapping[str, nn.Module], settings: "Settings", *, seed: int) -> Network:
    """A new network over the components that are to be trained (unet, te1, te2), which changes nothing yet.

    The components are frozen: no number of theirs asks for gradients afterwards. The factors are on the
    devices of the layers they are over. Raises InvalidParams for filters that fit nothing, and for a model
    in which the network has no modules.
    """
    kind = KINDS[type(settings)]
    found = {target.name: target for target in targets(family, components) if kind.has(target)}
    if not found:
        raise InvalidParams(
            f"A {kind.name} has no modules in this model: {', '.join(components) or 'nothing'} of {family}.",
            where="$.params.settings.network",
        )
    moment = Moment(seed)
    names = chosen(list(found), settings.include, settings.exclude)
    places = [Place(found[name], _module(found[name], settings, moment)) for name in names]
    for model in components.values():
        model.requires_grad_(False)
    network = Network(family, kind, places, moment)
    network.initialise()
    network.attach()
    return network


def _module(target: Target, settings: "Settings", moment: Moment) -> "LowRank":
    layer = target.layer
    is_conv = isinstance(layer, nn.Conv2d)
    rank, alpha = settings.size(is_kernel=is_conv and layer.kernel_size != (1, 1))
    sizes: dict[str, Any] = {
        "rank": rank,
        "alpha": alpha,
        "device": layer.weight.device,
        "dropout": _dropout(target.name, settings, moment),
    }
    if isinstance(layer, nn.Conv2d):
        return ConvLora(target.name, layer, **sizes)
    return LinearLora(target.name, target.shape, **sizes)


def _dropout(name: str, settings: "Settings", moment: Moment) -> Dropout | None:
    if not settings.dropout and not settings.rank_dropout:
        return None
    return Dropout(name, moment, share=settings.dropout, ranks=settings.rank_dropout)
