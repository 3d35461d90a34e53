"""A network over a model: its modules, what is trained of them, and taking them off again."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch
from torch import nn

from contract.errors import WeightsMismatch
from trainer.networks.dropout import Moment
from trainer.networks.low_rank import LowRank
from trainer.networks.targets import Target
from trainer.weights.names import FAMILIES, Sites

if TYPE_CHECKING:
    from trainer.networks.kinds import NetworkKind


class ParameterGroup(TypedDict):
    """A group as optimizers of torch take it; `name` is its component."""

    name: str
    lr: float
    params: list[nn.Parameter]


class Place(NamedTuple):
    """A module of the network, and the layer of the model that it is over."""

    target: Target
    module: LowRank


class Network(nn.Module):
    """The modules over a model of `family`, by kohya's names. It does not own the model: parameters and state
    are those of the factors alone.
    """

    def __init__(self, family: str, kind: "NetworkKind", places: Sequence[Place], moment: Moment) -> None:
        super().__init__()
        self.family = family
        self.kind = kind
        self.places: Mapping[str, Place] = {place.module.name: place for place in places}
        self._modules_by_name = nn.ModuleDict({name: place.module for name, place in self.places.items()})
        self._moment = moment
        self._undo: list[Callable[[], None]] = []

    @property
    def seed(self) -> int:
        """The run's."""
        return self._moment.seed

    @cached_property
    def sites(self) -> Sites:
        """Finds the place of a module by its name in any naming."""
        found = [place.target.site for place in self.places.values()]
        return Sites(self.family, FAMILIES[self.family].components, found)

    @property
    def components(self) -> list[str]:
        """Those that it has modules in, in their order."""
        return list(dict.fromkeys(place.target.component for place in self.places.values()))

    def at(self, step: int, part: int = 0) -> None:
        """Say where the training is, before each forward: `part` is the place within a step that gathers the
        gradients of several batches. The masks of dropout follow from it."""
        self._moment.step, self._moment.part = step, part

    def initialise(self) -> None:
        """Begin anew: the model is unchanged, and the factors follow from the seed and their names."""
        for place in self.places.values():
            place.module.initialise(self.seed)

    def attach(self) -> None:
        """Put every module over its layer."""
        for place in self.places.values():
            self._undo.append(_wrap(place.target.layer, place.module))

    def remove(self) -> None:
        """Take every module off: the model computes what it did before. Once more changes nothing."""
        while self._undo:
            self._undo.pop()()

    def groups(self, rates: Mapping[str, float]) -> list[ParameterGroup]:
        """What an optimizer is made of: a group for each component, with the learning rate of its name.

        Raises KeyError for a component without a rate.
        """
        return [
            {"name": component, "lr": rates[component], "params": self.parameters_of(component)}
            for component in self.components
        ]

    def parameters_of(self, component: str) -> list[nn.Parameter]:
        """Its factors, in the order of the names: the state of an optimizer is by number."""
        return [
            parameter
            for name in sorted(self.places)
            if self.places[name].target.component == component
            for parameter in (self.places[name].module.down, self.places[name].module.up)
        ]

    def state(self) -> dict[str, torch.Tensor]:
        """The factors as they are, by the keys that a file of kohya has for them; for checkpoints."""
        return {key: parameter.detach() for key, parameter in self._parameters_by_key().items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor], *, where: str | None = None) -> None:
        """Take over what `state` gave. `where` is the file that it is from, for errors.

        Raises WeightsMismatch where keys or shapes are others; nothing has changed then.
        """
        own = self._parameters_by_key()
        for key in sorted(own.keys() ^ state.keys()):
            raise _unlike(f"has {'no' if key in own else 'a'} `{key}`, unlike the network", key, where)
        for key, parameter in own.items():
            if state[key].shape != parameter.shape:
                shapes = f"{list(state[key].shape)}, the network {list(parameter.shape)}"
                raise _unlike(f"has `{key}` as {shapes}", key, where)
        for key, parameter in own.items():
            parameter.copy_(state[key])

    def _parameters_by_key(self) -> dict[str, nn.Parameter]:
        return {
            f"{name}.lora_{role}.weight": getattr(self.places[name].module, role)
            for name in sorted(self.places)
            for role in ("down", "up")
        }


def _wrap(layer: nn.Module, module: LowRank) -> Callable[[], None]:
    """Replace the forward of a layer; what puts it back."""
    before = layer.__dict__.get("forward")
    base = layer.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        out: torch.Tensor = module(x, base(x, *args, **kwargs))
        return out

    def undo() -> None:
        if before is None:
            del layer.__dict__["forward"]
        else:
            layer.__dict__["forward"] = before

    layer.__dict__["forward"] = forward
    return undo


def _unlike(says: str, key: str, where: str | None) -> WeightsMismatch:
    named = "The state" if where is None else f"`{where}`"
    return WeightsMismatch(f"{named} {says}.", where=where, details={"key": key})
