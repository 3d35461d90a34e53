"""All the sites of one model, found by module name in any naming, or by the key of a weight."""

from collections.abc import Sequence
from functools import cached_property
from typing import Final

from trainer.weights.names.component import Component
from trainer.weights.names.site import Site

#: What wrappers put before a module's own name: peft around a model, LyCORIS around any.
_WRAPPERS: Final = ("base_model_model_", "lycoris_", "lora_")
#: What follows a module's name inside a key, where somebody cut it off too late.
_ENDINGS: Final = (
    "_default",
    "_lora_A",
    "_lora_B",
    "_lora_down",
    "_lora_up",
    "_lora_linear_layer",
    "_lora",
)


class Sites:
    """The sites of one model. Building the indexes waits for the first question."""

    def __init__(self, family: str, components: Sequence[Component], found: list[Site]) -> None:
        self.family = family
        self.all = found
        self._components = components

    def find(self, name: str) -> Site | None:
        """The site of a module, by its name in any naming; None where it is none of this model.

        Wrappers (base_model.model., lycoris_), other prefixes of the component (lora_transformer_, unet.) and
        endings that belong to the key (.default, .lora_A) make no difference.
        """
        site = self._by_name.get(name)
        return site if site is not None else self._find_plain(name.replace(".", "_"))

    def by_weight(self, key: str) -> list[Site]:
        """Every site in one weight of the checkpoint: all of it first, then its parts in their order."""
        return self._by_weight.get(key, [])

    def _find_plain(self, name: str) -> Site | None:
        name = name.replace("_processor_to_", "_to_")
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
        for wrapper in ("", *_WRAPPERS):
            if name.startswith(wrapper) and (site := self._below(name[len(wrapper) :])) is not None:
                return site
        return None

    def _below(self, name: str) -> Site | None:
        for beginning, paths in self._beginnings:
            if name.startswith(beginning) and (site := paths.get(name[len(beginning) :])) is not None:
                return site
        return None

    @cached_property
    def _by_name(self) -> dict[str, Site]:
        return {
            name: site
            for site in self.all
            for name in (site.kohya, site.peft, site.generic)
            if name is not None
        }

    @cached_property
    def _by_weight(self) -> dict[str, list[Site]]:
        sites: dict[str, list[Site]] = {}
        for site in self.all:
            sites.setdefault(site.weight, []).append(site)
        for several in sites.values():
            several.sort(key=lambda site: (site.rows is not None, site.swapped, site.rows or (0, 0)))
        return sites

    @cached_property
    def _beginnings(self) -> list[tuple[str, dict[str, Site]]]:
        """What a name may begin with, the longest first, and the paths that may follow it."""
        found = [
            (beginning, paths)
            for component in self._components
            for paths in [self._paths(component)]
            for beginning in component.beginnings
        ]
        return sorted(found, key=lambda pair: -len(pair[0]))

    def _paths(self, component: Component) -> dict[str, Site]:
        """The module paths of a component, dots as underscores, without what they begin with."""
        paths: dict[str, Site] = {}
        for site in self.all:
            if site.component == component.id:
                for path in component.paths(site):
                    _add(paths, path.replace(".", "_"), site)
        return paths


def _add(paths: dict[str, Site], path: str, site: Site) -> None:
    paths.setdefault(path, site)
    # Old files of diffusers leave the number out, and those of transformers 5 the level of the text model.
    if path.endswith("_to_out_0"):
        paths.setdefault(path.removesuffix("_0"), site)
    elif path.startswith("text_model_"):
        paths.setdefault(path.removeprefix("text_model_"), site)
