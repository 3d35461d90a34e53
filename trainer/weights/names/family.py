"""A family of models, as far as names go: its components, and what it has at its published size."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from trainer.weights.names.component import Component
from trainer.weights.names.site import Shape, Weights
from trainer.weights.names.sites import Sites


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """`components` with the denoiser first. `published` gives every weight of the published models, by the
    name of the variant; the first is the one that is meant where nothing else is known."""

    id: str
    components: tuple[Component, ...]
    published: Mapping[str, Callable[[], Iterator[tuple[str, Shape]]]]

    def sites(self, weights: Weights) -> Sites:
        """The sites in a checkpoint, or in one component of it, by its keys and shapes."""
        found = [site for component in self.components for site in component.sites(weights)]
        return Sites(self.id, self.components, found)


def under(prefix: str, weights: Iterator[tuple[str, Shape]]) -> Iterator[tuple[str, Shape]]:
    """The same weights below a prefix."""
    return ((prefix + key, shape) for key, shape in weights)
