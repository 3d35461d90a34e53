"""The modules of a model that a network can be put over, and what they are called in files."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import nn

from trainer.weights.names import FAMILIES, Site

Layer = nn.Linear | nn.Conv2d


class Target(NamedTuple):
    """A layer of a component (unet, te1, te2), its path in it, and its names."""

    component: str
    path: str
    layer: Layer
    site: Site

    @property
    def name(self) -> str:
        """Kohya's."""
        assert self.site.kohya is not None
        return self.site.kohya

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in) or (out, in, kh, kw), whatever way its numbers lie in memory."""
        return _shape(self.layer)


def targets(family: str, components: Mapping[str, nn.Module]) -> list[Target]:
    """Every linear and convolutional layer that adapters of the family have a name for, as the models of
    diffusers and transformers have them; in the order of the components and their layers.

    Raises KeyError for a family, or a component, that has no names.
    """
    known = {component.id: component.generic for component in FAMILIES[family].components}
    layers = {
        f"{known[component]}{path}.weight": (component, path, layer)
        for component, model in components.items()
        for path, layer in _layers(model)
    }
    sites = FAMILIES[family].sites({key: _shape(layer) for key, (_, _, layer) in layers.items()})
    named = {site.weight: site for site in sites.all if site.kohya is not None}
    return [Target(*place, named[key]) for key, place in layers.items() if key in named]


def _layers(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield path, module


def _shape(layer: Layer) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size
